"""Generated from proto/gossamer/v1/device.proto, proto/gossamer/v1/fleet.proto, proto/gossamer/v1/profile.proto, proto/gossamer/v1/registry.proto; see tools/gen_protos.py."""
