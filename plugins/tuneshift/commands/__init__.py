"""The groups of the ``tuneshift`` command, one a file; ``cli`` puts them together."""
