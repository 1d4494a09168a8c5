"""Pendulums to meta-learn: a user-defined data set that is simulated, not stored."""
