"""Devices as the command line sees them: a saved list, and two ways to reach one (gRPC, a mounted card)."""
