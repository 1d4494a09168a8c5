"""Alembic's migrations: one revision per change of the tables."""
