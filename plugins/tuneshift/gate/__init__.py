"""Baselines, what counts as a regression, looks, shards."""
