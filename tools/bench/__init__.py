"""Benchmarks: Gossamer and its peers on the same graphs, interleaved in one run."""
