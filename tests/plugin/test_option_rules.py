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


def test_the_plan_says_which_rules_are_on(suites, tmp_path):
    result = suites(
        "-k", "rules", "--shift-plan", store=tmp_path / "empty", suite="test_implicit_following.py"
    )  # fmt: skip
    result.stdout.fnmatch_lines_random(
        [
            "  tiny-base: generation, tiny, 0/20 stored, *",
            "  tiny-base: generation under rules end + uniform + diversity, tiny, 0/20 stored, *",
            "  tiny-base: generation under rules end + uniform + diversity, user's text alone present, tiny, *",
            "  tiny-base: generation under rules uniform + diversity, tiny, 0/20 stored, *",
        ]
    )
