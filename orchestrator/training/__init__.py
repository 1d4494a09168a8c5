"""The outer loop: steps, optimiser, validation, checkpoints."""
