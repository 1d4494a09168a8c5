"""Draws the episodes of an evaluation again from the run's seed, with predictions."""
