"""Decoders: from a file's bytes to one row of a prepared array, a kind of data each."""
