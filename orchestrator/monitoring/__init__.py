"""Reads the state of the fleet and of the runs, for `metafleet exporter` and `metafleet top`."""
