"""How a language model is asked: an endpoint, or a local checkpoint."""
