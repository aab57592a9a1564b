"""``--shift-rules``: the rules of the adapter on the base."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hewit2024", "*rules 'hewit2024' are neither shipped nor a path*hewitt2024*"),
        ("nowhere.toml", "*rules 'nowhere.toml': no such file*"),
    ],
)
def test_rules_that_are_not_there_end_the_run_before_it_starts(suites, value, message):
    result = suites("--shift-rules", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
