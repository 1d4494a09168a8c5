"""Web applications of the orchestrator."""
