"""The ``.goss`` container: build, read, sign, verify, inspect, diff."""
