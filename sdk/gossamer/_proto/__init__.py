"""Generated protocol buffers; see tools/gen_protos.py."""
