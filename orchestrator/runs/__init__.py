"""One run from its configuration to its end: who executes it, and what it learned."""
