"""The ledger: one small file for each result, from which anyone can run it again."""
