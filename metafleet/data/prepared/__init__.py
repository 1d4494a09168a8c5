"""Prepared data on disk: how they are created, found and opened."""
