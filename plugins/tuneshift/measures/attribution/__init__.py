"""Input-output attribution."""
