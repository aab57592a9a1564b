"""Whether this machine, store and pair are ready."""
