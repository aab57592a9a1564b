"""``--shift-inconclusive`` and declared expectations: what a verdict does to its test."""

from __future__ import annotations

from pathlib import Path

import pytest

DENSITY = "density_rises"


@pytest.fixture
def declared(tmp_path: Path, tiny_base: Path, tiny_tuned: Path, tiny_prompts: Path):
    """``declared(toml)`` makes a pair file whose pair has these expectations; the options that select it."""

    def make(text: str) -> tuple[object, ...]:
        (tmp_path / "expect.toml").write_text(text)
        (tmp_path / "pairs.toml").write_text(
            f'[pairs.tiny]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
            'expectations = "expect.toml"\n'
        )
        return ("--pairs", tmp_path / "pairs.toml")

    return make


def expect(verdict: str) -> str:
    return f"""
[[expect]]
finding = "wu2023.instruction_density_rises"
verdict = "{verdict}"
reason = "two random models differ by chance"
"""


def test_by_default_it_is_skipped_and_the_summary_says_so(suites, record):
    result = suites("-k", DENSITY)
    assert record()["claims"][0]["verdict"] == "inconclusive"
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[?] 1 claim is inconclusive, neither shown nor refuted: skipped, not passed *"])


def test_a_strict_run_fails_with_effect_interval_and_reason(suites, record):
    result = suites("-k", DENSITY, "--shift-inconclusive", "fail")
    claim = record()["claims"][0]
    assert claim["verdict"] == "inconclusive"
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "wu2023.instruction_density_rises is inconclusive on pair tiny-base-tiny-tuned, tiny.",
            "  claim:  *",
            "  found:  * (n = 20, 98.75 % interval, p = *)",
            "  reason: *",
            "[?] 1 claim is inconclusive, neither shown nor refuted: failed (--shift-inconclusive=fail)",
        ]
    )


@pytest.mark.parametrize(("option", "outcome"), [("skip", "skipped"), ("pass", "passed")])
def test_it_can_be_softened(suites, option, outcome):
    result = suites("-k", DENSITY, "--shift-inconclusive", option)
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == 0


def test_a_declared_outcome_is_an_expected_failure_with_its_reason(suites, declared):
    result = suites("-k", DENSITY, "-rx", pair=declared(expect("inconclusive")))
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*inconclusive (as declared)", "XFAIL *two random models differ by chance"])


def test_another_outcome_than_declared_fails_and_is_called_news(suites, declared):
    result = suites("-k", DENSITY, pair=declared(expect("contradicted")))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["declared as contradicted (two random*), but it is inconclusive.*"])


def test_an_unknown_finding_is_a_usage_error_with_a_suggestion(suites, declared):
    result = suites(pair=declared(expect("inconclusive").replace("density_rises", "density_rise")))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*wu2023.instruction_density_rise*wu2023.instruction_density_rises*"])
