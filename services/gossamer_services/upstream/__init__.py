"""Servers that this one needs and that run elsewhere: the registry of optimizer and fleet, the fleet of a registry."""
