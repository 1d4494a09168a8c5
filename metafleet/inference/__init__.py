"""Inference without a fleet: adapt a trained model to new classes, save it, and predict."""
