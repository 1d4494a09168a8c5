"""Serves web applications of the orchestrator."""
