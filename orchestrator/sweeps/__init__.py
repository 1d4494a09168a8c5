"""Searches for good configurations: a sweep tries many, and each trial is an ordinary run."""
