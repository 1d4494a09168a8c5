"""The folder layouts that an import understands, one per module."""
