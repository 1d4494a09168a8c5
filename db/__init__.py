"""The database of runs: SQLite or PostgreSQL. Only the orchestrator opens it."""
