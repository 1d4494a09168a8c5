"""Measured spectra as a kind of data."""
