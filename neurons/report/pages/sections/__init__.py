"""Sections of a neuron's page, one module for each analysis that adds some; `routes` has one of the composition too."""
