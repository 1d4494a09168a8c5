"""The `metafleet` command."""
