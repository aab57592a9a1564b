"""`tuneshift tune`: siblings made from a base."""
