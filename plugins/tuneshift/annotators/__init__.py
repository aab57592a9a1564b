"""Who labels word lists."""
