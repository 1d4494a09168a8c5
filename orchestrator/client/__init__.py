"""The records and the fleet from Python: what notebooks and scripts use."""
