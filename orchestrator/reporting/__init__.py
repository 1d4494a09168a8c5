"""Formats and prints what users read about a run."""
