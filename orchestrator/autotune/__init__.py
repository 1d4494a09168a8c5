"""Measures and compiles before a run's first step."""
