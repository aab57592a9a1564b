"""The embedded family: a generated small English world, and the models pre-trained and tuned on it."""
