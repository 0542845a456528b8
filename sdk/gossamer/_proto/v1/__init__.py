"""Generated from proto/gossamer/v1."""
