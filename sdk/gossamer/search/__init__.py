"""Automatic sparsity: how far each layer may go, from its sensitivity and from measured times."""
