"""User-defined data sets, named "package.module:Class"."""
