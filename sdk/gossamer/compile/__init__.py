"""Graph -> plan: passes, partition, layout, sparse encoding, memory plan, emission."""
