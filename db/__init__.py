"""Where runs are written down: SQLite or PostgreSQL, opened by the orchestrator alone."""
