"""Benchmarks; each prints its command, the machine, medians and spread."""
