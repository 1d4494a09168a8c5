"""A package of one's own that a fleet imports a network from."""
