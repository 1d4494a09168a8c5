"""Contracts of orchestrator and workers: settings, messages, encoded tensors, Redis keys."""
