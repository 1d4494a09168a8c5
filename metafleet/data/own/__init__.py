"""Data sets of the user's own, named "package.module:Class"."""
