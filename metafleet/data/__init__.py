"""Data sets: the sources of episodes. No other part of the core decodes files."""
