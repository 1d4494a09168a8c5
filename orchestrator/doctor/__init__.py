"""Checks a deployment and tells how to fix it."""
