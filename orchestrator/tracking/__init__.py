"""Reads the records of runs for sinks, and sends them while the runs are executed."""
