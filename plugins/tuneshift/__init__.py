"""Published findings about instruction tuning as pytest tests over pairs of causal language models."""
