"""The orchestrator: plans, sends, collects, commits and records; the fleet's only writer."""
