"""Decoders, one per kind of data: they turn a file's bytes into a row of a prepared array."""
