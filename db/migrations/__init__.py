"""Alembic's migrations, with one revision for each change of the tables."""
