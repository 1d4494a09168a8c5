"""Measured spectra as a user-defined kind of data."""
