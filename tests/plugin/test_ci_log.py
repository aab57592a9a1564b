"""What a CI log says: each failure once, in full in its section and in one line at the end."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

STRICT = ("-k", "density_rises", "--shift-inconclusive", "fail")


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)], ids=["alone", "two workers"]
)
def test_a_failure_is_told_once_where_ci_is_set(suites, pytester, monkeypatch, workers):
    monkeypatch.setenv("CI", "true")
    result = suites(*STRICT, "--junitxml", "junit.xml", *workers, new_process=True)
    assert result.ret == 1
    text = result.stdout.str()
    assert text.count("  claim:  ") == 1, text
    (line,) = [line for line in result.outlines if line.startswith("FAILED ")]
    assert "wu2023.instruction_density_rises is inconclusive on pair" in line
    (failure,) = ElementTree.parse(pytester.path / "junit.xml").iter("failure")
    assert "\n" not in failure.get("message", "")
    assert "  claim:  " in (failure.text or "")


def test_failures_of_other_tests_are_left_as_they_are(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile("def test_other():\n    raise ValueError('one\\ntwo')")
    assert "\ntwo\n" in pytester.runpytest_subprocess("--color=no").stdout.str().partition("short test summary")[2]
