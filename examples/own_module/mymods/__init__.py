"""A user's package with a network for a fleet to import."""
