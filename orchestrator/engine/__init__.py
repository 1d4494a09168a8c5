"""The engine: cuts steps into shards, computes them here or on the fleet, sums along a tree."""
