"""Calibration of a model's probabilities on validation episodes."""
