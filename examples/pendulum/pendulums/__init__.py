"""Pendulums to meta-learn: a data set of one's own that is simulated, not stored."""
