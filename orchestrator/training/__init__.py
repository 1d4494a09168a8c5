"""The outer loop of meta-training: steps, optimiser, validation, checkpoints."""
