"""Advice for a new data set from what the database knows of others."""
