"""What a run prints: numbers, verdicts in words, the table, and files that are never half of one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from gate_records import FINDING, claim_with

from tuneshift.errors import UsageError
from tuneshift.session.console import (
    append_step_summary,
    effect_text,
    explain,
    number,
    require_output_folder,
    write_summary,
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a line a claim."""
    monkeypatch.setenv("COLUMNS", "200")


class Lines:
    """A terminal that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.markup: list[dict[str, bool]] = []

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)
        self.markup.append(markup)

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        self.write_line(f"{sep}{title}{sep}", **markup)


def summary(*claims: dict, written: tuple[str, ...] = (), errors: int = 0, inconclusive: str = "skip") -> Lines:
    terminal = Lines()
    write_summary(terminal, claims, written, 0.05, inconclusive=inconclusive, errors=errors)
    return terminal


def arm(label: str, mean: float, n: int = 3) -> dict:
    return {"label": label, "mean": mean, "n": n}


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [(0.12345, "0.123", "+0.123"), (-2.0, "-2", "-2"), (0.0, "0", "+0"), (123456.0, "1.23e+05", "+1.23e+05"),
     (None, "–", "–")],
)  # fmt: skip
def test_three_digits_a_sign_where_asked_and_a_dash_for_none(value, plain, signed) -> None:
    assert (number(value), number(value, True)) == (plain, signed)


def test_an_effect_stands_with_its_interval_and_none_without() -> None:
    assert effect_text(claim_with(effect=0.19, interval=[0.081, 0.3])) == "+0.19 [+0.081, +0.3]"
    assert effect_text(claim_with(effect=-1.0, interval=[None, None])) == "-1 [–, –]"
    assert effect_text(claim_with(effect=None, interval=[None, None])) == "–"


def test_a_failure_says_what_was_claimed_found_and_how_many_items_would_decide() -> None:
    found = {"effect": 0.2, "interval": [-0.1, 0.5], "level": 0.975, "p": 0.04, "needed": "90 items"}
    said = explain(claim_with(verdict="inconclusive", **found))
    head, claimed, measured, reason, needed = said.splitlines()
    assert head == f"{FINDING.id} is inconclusive on pair pair, set."
    assert claimed.split() == ["claim:", FINDING.claim]
    assert measured == "  found:  +0.2 [-0.1, +0.5] u (n = 3, 97.5 % interval, p = 0.04)"
    assert reason.startswith("  reason: ")
    assert needed == "  a fresh set of 90 items would decide it in four of five cases"
    settled = explain(claim_with(needed=None, group="after"))
    assert settled.splitlines()[0].endswith("on pair pair, set, after.")
    assert "would decide" not in settled


def test_the_table_is_sorted_aligned_and_coloured_by_verdict() -> None:
    claims = [
        claim_with(pair="q", finding="b.long_name_of_a_finding", verdict="contradicted"),
        claim_with(pair="q", finding="a.x", verdict="reproduced", group="after"),
        claim_with(pair="p", finding="z.x", verdict="inconclusive"),
    ]
    shown = summary(*claims)
    title, head, *rows = shown.lines[:5]
    assert title == "=tuneshift verdicts="
    assert [row.split()[0] for row in rows] == ["z.x", "a.x", "b.long_name_of_a_finding"]
    assert [row.split("  ")[-1] for row in rows] == ["? inconclusive", "✔ reproduced", "✘ contradicted"]
    at = len(claims[0]["finding"]) + 2
    assert [row[at:].split("  ")[0] for row in (head, *rows)] == ["on", "p", "q, after", "q"]
    assert shown.markup[1:5] == [{"bold": True}, {"yellow": True}, {"green": True}, {"red": True}]
    assert summary(*claims[::-1]).lines == shown.lines


@pytest.mark.parametrize(("clusters", "n"), [(58, "348 in 58"), (348, "348")])
def test_clusters_are_said_where_items_share_them(clusters, n) -> None:
    arms = [arm("base", 0.25, 348), arm("tuned", 0.5, 348)]
    row = summary(claim_with(arms=arms, n=348, clusters=clusters)).lines[2]
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][2] == n


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (None, "✘ contradicted"),
        ({"verdict": "contradicted", "reason": "r"}, "✘ contradicted (as declared)"),
        ({"verdict": "inconclusive", "reason": "r"}, "✘ contradicted (declared otherwise)"),
    ],
)
def test_a_declared_outcome_is_said_beside_the_verdict(expected, words) -> None:
    row = summary(claim_with(verdict="contradicted", expected=expected)).lines[2]
    assert row.endswith(f"  {words}")


def test_a_dagger_is_explained_where_there_is_one() -> None:
    other = {"name": "over the user turn", "verdict": "inconclusive"}
    with_one = summary(claim_with(verdict="reproduced", sensitivity=[other])).lines
    assert with_one[2].endswith("✔ reproduced †")
    assert any(line.startswith("† under another reading") for line in with_one)
    agreeing = summary(claim_with(verdict="reproduced", sensitivity=[{**other, "verdict": "reproduced"}])).lines
    assert "†" not in "".join(agreeing)


@pytest.mark.parametrize(
    ("arms", "cells"),
    [
        ([arm("base", 0.25), arm("tuned", 0.5)], ["3", "0.25 → 0.5"]),
        ([arm("chance", 0.5), arm("base", 0.75)], ["3", "0.5 chance → 0.75 base"]),
        ([arm("not followed", 0.25, 4), arm("followed", 0.5, 5)], ["4+5", "0.25 not followed → 0.5 followed"]),
        ([], ["17", "–"]),
        ([arm("a", 0.25, 4), arm("b", 0.5, 5), arm("c", 0.75, 6)], ["17", "0.25 a → 0.75 c"]),
    ],
)
def test_arms_are_named_unless_they_are_base_and_tuned(arms, cells) -> None:
    head, row = summary(claim_with(arms=arms, n=17)).lines[1:3]
    assert "base" not in head
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][2:4] == cells


@pytest.mark.parametrize(("width", "lines"), [(167, 1), (120, 1), (80, 2)])
def test_the_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int, lines: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    known = {"verdict": "contradicted", "reason": "r"}
    other = {"name": "over the user turn", "verdict": "inconclusive"}
    longest = claim_with(
        finding="hewitt2024.response_tuning_yields_following", pair="micro", verdict="contradicted", expected=known,
        arms=[arm("general verbs", 0.495, 384), arm("instruction verbs", 0.267, 12)], effect=-0.228,
        interval=[-0.419, -0.0343], sensitivity=[other],
    )  # fmt: skip
    shown = summary(longest, {**longest, "finding": "a.b"}).lines
    rows = [line for line in shown if "hewitt2024" in line or line.startswith("    on micro")]
    table = shown[1 : 2 + 2 * lines if lines == 1 else 5]
    assert max(map(len, table)) <= width
    assert len(rows) == (1 if lines == 1 else 3)
    told = " ".join(table)
    assert all(words in told for words in ("✘ contradicted † (as declared)", "-0.228 [-0.419, -0.0343]", "384+12"))
    assert ("0.495 general verbs" in told) is (width != 120), "the means are what goes first"


def test_claims_that_do_not_apply_take_one_line_together() -> None:
    silent = [
        claim_with(finding=f"a.none{k}", verdict="not_applicable", reason=["no rating", "no siblings"][k % 2])
        for k in range(5)
    ]
    declared = claim_with(finding="a.known", verdict="not_applicable", expected={"verdict": "reproduced", "reason": ""})
    shown = summary(claim_with(verdict="reproduced"), *silent, declared)
    assert [line for line in shown.lines if "a.none" in line] == []
    (at,) = (k for k, line in enumerate(shown.lines) if "not apply" in line)
    assert shown.lines[at] == "– 5 claims do not apply: no rating (3); no siblings (2)"
    assert shown.markup[at] == {"cyan": True}
    assert any(line.startswith("a.known") and "declared otherwise" in line for line in shown.lines)
    many = [claim_with(finding=f"a.f{k}", verdict="not_applicable", reason=f"why {k}") for k in range(5)]
    assert any(line.endswith("why 2 (1); 2 more in the report") for line in summary(*many).lines)
    assert any(line == "– 1 claim does not apply: no rating (1)" for line in summary(silent[0]).lines)


def test_what_was_declared_is_not_red_in_a_run_that_is_green() -> None:
    known = {"verdict": "contradicted", "reason": "r"}
    assert summary(claim_with(verdict="contradicted", expected=known)).markup[2] == {"yellow": True}
    assert summary(claim_with(verdict="contradicted", expected={**known, "verdict": "reproduced"})).markup[2] == {
        "red": True
    }


def test_a_run_of_errors_alone_has_no_table() -> None:
    assert summary(errors=2, written=("record: a",)).lines == [
        "=tuneshift verdicts=",
        "2 claims could not be made, because something failed. Why is under `errors` in run.json and in the report.",
        "record: a",
    ]


def test_claims_that_could_not_be_made_and_files_come_last() -> None:
    shown = summary(claim_with(), written=("record: a", "report: b"), errors=2)
    assert shown.lines[-2:] == ["record: a", "report: b"]
    assert "`errors` in run.json" in shown.lines[-3]
    assert shown.lines[-3].startswith("2 ")
    assert shown.markup[-3] == {"red": True}
    assert "`errors`" not in "".join(summary(claim_with()).lines)


def test_what_the_error_rate_leaves_open_is_counted_without_claims_that_do_not_apply() -> None:
    def counted(*verdicts: str) -> str:
        claims = [claim_with(finding=f"a.{k}", verdict=v) for k, v in enumerate(verdicts)]
        return next(line for line in summary(*claims).lines if "false decisions" in line)

    assert counted("reproduced", "not_applicable").startswith("1 claim decided in 1 family")
    assert counted("reproduced", "inconclusive").startswith("2 claims decided in ")


@pytest.mark.parametrize(("option", "fate"), [("skip", "skipped, not passed"), ("fail", "failed"), ("pass", "passed")])
def test_what_was_not_decided_is_counted_with_what_became_of_its_tests(option: str, fate: str) -> None:
    open_, known = claim_with(verdict="inconclusive"), claim_with(verdict="inconclusive", group="known")
    declared = {**known, "expected": {"verdict": "inconclusive", "reason": "r"}}
    shown = summary(open_, declared, inconclusive=option)
    (at,) = (k for k, line in enumerate(shown.lines) if line.startswith("? 1 claim is "))
    assert fate in shown.lines[at]
    assert shown.markup[at] == {"yellow": True}
    assert any(line.startswith("? 2 claims are ") for line in summary(open_, known, inconclusive=option).lines)
    assert not any(line.startswith("? 1 claim is ") for line in summary(declared, inconclusive=option).lines)


def test_a_step_summary_is_appended_to_what_other_steps_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert append_step_summary("x") == []
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert append_step_summary("one") == append_step_summary("two\n") == []
    assert path.read_text() == "before\none\ntwo\n"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    (warning,) = append_step_summary("x")
    assert warning.startswith("warning: no summary in $GITHUB_STEP_SUMMARY")
    assert warning.endswith("Is a directory")


def test_an_output_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    require_output_folder(tmp_path / "deep" / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"--shift-out .*file cannot be written \(.*\); name another folder"):
        require_output_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
