"""The engine: a step cut into shards, computed here or by the fleet, summed along a tree."""
