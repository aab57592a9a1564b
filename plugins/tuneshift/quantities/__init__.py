"""The number that a finding is decided by, and its figures."""
