"""Writes a run's rows to the database, and keeps them in a file while it is away."""
