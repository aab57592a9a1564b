"""What a user runs: one module per family of findings, test functions and ``Finding`` constants only."""
