"""Names of what crosses between xdist's controller and its workers."""

LOOK = "tuneshift_look"
"""Of a worker's input: the look at a baseline that the whole run takes."""
BOARD = "tuneshift_board"
"""Of a worker's input: the folder in which it tells how far it is."""
PROBLEM_FIELD = "tuneshift_problem"
"""Of a worker's output: what was wrong with what it was asked to collect."""
