"""Data on disk after preparation: how they are made, found and opened."""
