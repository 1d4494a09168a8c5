"""Rows on their way to the database, and where they wait while it is away."""
