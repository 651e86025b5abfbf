"""What the weights alone show: moments over the vocabulary, tokens, neighbours; activations on text."""
