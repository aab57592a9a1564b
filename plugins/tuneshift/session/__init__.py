"""pytest options, what a run prints, xdist."""
