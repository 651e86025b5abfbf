"""Composition of the greater-than map: named shapes, components, sparse reconstruction."""
