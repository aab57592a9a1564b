"""Prompt sets, chat templates, tokens and spans, verifiers."""
