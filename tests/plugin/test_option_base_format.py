"""``--shift-base-format`` and ``--shift-plain-format``: the base asked in other formats, as readings."""

from __future__ import annotations

import json

import pytest

FOLLOWING = "test_implicit_following.py"
PLAIN, RULES = "tiny-base: generation, asked in the plain format, tiny", "diversity, asked in the plain format, tiny"


def planned(suites, tmp_path, *options, suite=""):
    result = suites("--shift-plan", *options, store=tmp_path / "empty", suite=suite)
    assert result.ret == 0
    return [line for line in result.outlines if "asked in" in line]


def test_responses_are_asked_for_in_other_formats_and_attributions_only_with_both(suites, tmp_path):
    usual = planned(suites, tmp_path)
    assert sum(PLAIN in line for line in usual) == 1
    assert sum(RULES in line for line in usual) == 1
    assert sum("asked in the paper format" in line for line in usual) == 2
    assert not any("attribution" in line or "tiny-tuned" in line for line in usual)
    both = planned(suites, tmp_path, "--shift-base-format=both")
    assert [line for line in both if "attribution" in line] != []
    assert len(both) == len(usual) + 1
    assert planned(suites, tmp_path, "--shift-base-format=none") == []


def keys(lines):
    return {line.rsplit(", ", 1)[1] for line in lines if PLAIN in line}


def test_the_plain_format_can_be_set(suites, tmp_path):
    file = tmp_path / "plain.jinja"
    file.write_text("Q: {{ messages[0].content }}\nA:")
    named = [planned(suites, tmp_path, *options, suite=FOLLOWING) for options in (
        (), (f"--shift-plain-format={file}",), ("--shift-plain-format=Q: {{ messages[0].content }}\nA:",),
        ("--shift-plain-format=none",),
    )]  # fmt: skip
    found = [keys(lines) for lines in named]
    assert found[1] == found[2] != found[0]
    assert all(len(one) == 1 for one in found[:3])
    assert found[3] == set()  # the prompt alone is this pair's format: nothing else to ask


def test_a_format_that_is_none_ends_the_run_before_it_starts(suites):
    result = suites("--shift-plain-format=nowhere.jinja", suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*plain_format 'nowhere.jinja' is neither a file nor a Jinja template*"])


def test_readings_stand_beside_the_verdict_and_decide_nothing(suites, pytester):
    def record(*options):
        suites("-k", "tuned_follows", "--shift-judge=similarity", *options, suite=FOLLOWING)
        run = json.loads((pytester.path / "tuneshift-results" / "run.json").read_text())
        return run["claims"][0], run

    asked, run = record()
    names = [row["name"] for row in asked["sensitivity"]]
    assert names[1:3] == ["base asked in a plain format", "base asked in the tags of arXiv:2409.14254"]
    assert "Question: " in run["pairs"][0]["plain_format"]
    assert run["run"]["settings"]["base_format"] == "generation"
    alone, _ = record("--shift-base-format=none")
    assert not any("base asked" in row["name"] for row in alone["sensitivity"])
    assert [alone[k] for k in ("effect", "interval", "verdict", "evidence")] == [
        asked[k] for k in ("effect", "interval", "verdict", "evidence")
    ]


def test_a_reading_that_cannot_be_measured_says_so_and_leaves_the_verdict(suites, pytester, monkeypatch):
    from tuneshift.engine.engine import Engine
    from tuneshift.errors import MeasureError

    true = Engine.evidence

    def evidence(self, task):
        if task.asked_in == "plain":
            raise MeasureError("no room on the device")
        return true(self, task)

    monkeypatch.setattr(Engine, "evidence", evidence)
    suites("-k", "tuned_follows", "--shift-judge=similarity", suite=FOLLOWING)
    (claim,) = json.loads((pytester.path / "tuneshift-results" / "run.json").read_text())["claims"]
    (plain,) = [row for row in claim["sensitivity"] if row["name"] == "base asked in a plain format"]
    assert (plain["verdict"], plain["note"]) == ("not_applicable", "not measured: no room on the device")
    assert claim["effect"] is not None
