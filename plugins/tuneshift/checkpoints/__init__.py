"""Checkpoints: loading, fingerprint, decoding, scoring, and where an architecture keeps its tensors."""
