"""Reads an experiment's configuration from TOML into one checked and frozen value."""
