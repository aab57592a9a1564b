"""Word lists and word spaces."""
