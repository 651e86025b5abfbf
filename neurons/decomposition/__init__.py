"""Direct logit effects of neurons through the final LayerNorm, and their ranking."""
