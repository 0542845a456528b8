"""Generated from proto/gossamer/v1/device.proto; see tools/gen_protos.py."""
