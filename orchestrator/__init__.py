"""The one who plans, sends, collects, commits and records: the fleet's only writer."""
