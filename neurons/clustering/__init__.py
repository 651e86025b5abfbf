"""Tuning of neurons to the start year, families of curves, and clusters."""
