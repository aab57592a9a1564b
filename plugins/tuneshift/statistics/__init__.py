"""Tests, intervals, power."""
