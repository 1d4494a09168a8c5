"""A user's own data: readers of the layouts that folders of examples come in."""
