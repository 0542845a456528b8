"""Generated from proto/gossamer/v1; see tools/gen_protos.py."""
