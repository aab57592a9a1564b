"""One module per quantity taken from ONE checkpoint; each returns per-item evidence, never an average."""
