"""Who says that a response follows."""
