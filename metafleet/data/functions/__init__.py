"""Regression tasks: functions drawn at random and computed, or given by the rows of a table."""
