"""The folder layouts that an import understands, one a file."""
