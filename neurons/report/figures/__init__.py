"""Results to matplotlib figures, in one style."""
