"""What is measured, in which order, under which key."""
