"""Creates and executes runs, follows them to their end, and reads what they learned."""
