"""Names of what crosses between xdist's controller and its workers."""

LOOK = "tuneshift_look"
"""Of a worker's input: the look at a baseline that the whole run takes."""
PROBLEM_FIELD = "tuneshift_problem"
"""Of a worker's output: what was wrong with what it was asked to collect."""
SELECTION = "tuneshift_selection"
"""The places that a worker's collection asked for, None for all."""
