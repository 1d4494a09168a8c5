"""Regression tasks: functions that are drawn and computed, or known at the rows of a table."""
