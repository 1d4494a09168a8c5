"""Reads the records of runs: filters, columns, groups, results. Imports no learning core."""
