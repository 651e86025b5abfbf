"""Ablate neurons, sets of them, or whole layers at END, and measure the exact effect."""
