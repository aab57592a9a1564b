"""The first screen: conclusion, known outcomes, what changed, the worst claim, verdicts."""

from __future__ import annotations

from collections import Counter

import pytest
from pages import Page
from run_records import Row, claim, compared, compared_record, full_record, not_applicable, record

from tuneshift.claims.claim_record import IDENTICAL
from tuneshift.report.changes import changed
from tuneshift.report.claims import finding_views
from tuneshift.report.conclusion import headline, worst
from tuneshift.report.html import render_html
from tuneshift.report.markdown import render_summary
from tuneshift.report.values import estimate
from tuneshift.run_record import RunRecord


def test_a_verdict_that_depends_on_the_reading_is_marked_on_the_first_screen() -> None:
    rows = [{"name": "other", "effect": 0.0, "interval": [-0.1, 0.1], "verdict": "inconclusive", "n": 40, "note": ""}]
    marked = render_html(record([claim(sensitivity=rows)]))
    steady = render_html(record([claim(sensitivity=[{**rows[0], "verdict": "reproduced"}])]))
    assert "depends on the reading" in marked
    assert "† Read otherwise" in marked
    assert "†" not in steady


def test_the_conclusion_counts_verdicts_and_known_outcomes() -> None:
    page = Page(render_html(full_record()))
    verdicts = Counter(c["verdict"] for c in full_record().claims)
    assert verdicts == {"reproduced": 1, "contradicted": 1, "inconclusive": 2, "not_applicable": 1}, "the builder moved"
    conclusion = "1 of 5 claims is reproduced on llama-vicuna ; 1 contradicted, 2 inconclusive and 1 not applicable."
    assert conclusion in page.text
    assert "2 outcomes were declared beforehand; 1 came out otherwise." in page.text
    assert "1 claim is undecided: these prompts neither show nor refute what is claimed." in page.text
    assert "declared reproduced" in page.text
    assert "As declared beforehand: nine prompts" in page.text
    for fact in ("pytest suites --pairs pairs.toml", "torch 2.13.0", "example/llama-7b", "2026-11-21 07:06 UTC"):
        assert fact in page.text


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ("", "No claim was tested in this run."),
        ("r", "The one claim that was tested is reproduced on P."),
        ("rr", "All 2 claims are reproduced on P."),
        ("ci", "None of the 2 claims is reproduced on P; 1 contradicted and 1 inconclusive."),
        ("rrn", "2 of 3 claims are reproduced on P; 1 not applicable."),
    ],
)
def test_headlines(verdicts: str, sentence: str) -> None:
    words = {"r": "reproduced", "c": "contradicted", "i": "inconclusive", "n": "not_applicable"}
    assert headline([{"verdict": words[v], "pair": "P"} for v in verdicts]) == sentence


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (["held", "held"], "All 2 claims are reproduced on P."),
        (
            ["regressed", "held"],
            "1 of 2 claims regressed against baseline good. All 2 claims are reproduced on P.",
        ),
        (
            ["regressed"],
            "The one claim that was tested has regressed against baseline good. The one claim that was tested is "
            "reproduced on P.",
        ),
        (["worse", "held"], "1 of 2 claims is worse against baseline good. All 2 claims are reproduced on P."),
        (["missing", "missing"], "2 of 2 claims are missing against baseline good. All 2 claims are reproduced on P."),
        (
            ["worse", "regressed", "held"],
            "2 of 3 claims regressed, are worse or missing against baseline good. All 3 claims are reproduced on P.",
        ),
    ],
)
def test_a_regression_comes_first(outcomes: list[str], sentence: str) -> None:
    claims = [
        {"verdict": "reproduced", "pair": "P", "comparison": {"outcome": o, "baseline": "good"}} for o in outcomes
    ]
    assert headline(claims) == sentence


def test_a_pair_that_is_one_checkpoint_is_said_first() -> None:
    claims = [{"verdict": "not_applicable", "pair": "aa", "reason": IDENTICAL}] * 2
    assert headline(claims) == (
        "The checkpoints of aa have identical weights: every difference is 0 by construction. "
        "None of the 2 claims is reproduced on aa; 2 not applicable."
    )
    beside = [*claims, {"verdict": "reproduced", "pair": "other", "reason": "decided"}]
    assert headline(beside).startswith("The checkpoints of aa have identical weights")
    many = [{**claims[0], "pair": name} for name in ("a", "b", "c")]
    assert headline(many).startswith("The checkpoints of 3 pairs have identical weights")


def test_a_record_without_claims_says_so() -> None:
    for held in (record([]), RunRecord(schema=1, run={}, pairs=[], claims=[])):
        page = Page(render_html(held))
        assert page.faults == []
        assert "No claim was tested in this run." in page.text
        assert "pytest suites --base=A --tuned=B" in page.text
        assert render_summary(held).strip() == "**No claim was tested in this run.**"


def test_what_changed_against_the_baseline_is_said_and_linked() -> None:
    held = compared_record()
    page = Page(render_html(held))
    assert "Against baseline good: 1 regressed, 1 improved, 1 inconclusive, 1 held, 1 not compared." in page.text
    assert "good was saved 2026-11-20 10:00 UTC, tuned checkpoint abababababab" in page.text
    assert "−0.200 [−0.300, −0.100]" in page.text
    anchors = [c["anchor"] for f in finding_views(held.claims) for c in f["claims"]]
    links = [(a.get("href") or "")[1:] for a in page.all("a")]
    # All from the table, its dagger and themselves; what changed from the facts, the worst claim once more.
    assert [links.count(anchor) for anchor in anchors] == [5, 4, 3, 3, 3]
    assert "This run was not compared with a baseline." in Page(render_html(record([claim()]))).text


def test_the_largest_changes_come_first() -> None:
    rows = [
        ("a", compared("improved", effect=0.9)),
        ("b", compared("regressed", effect=-0.2)),
        ("c", compared("regressed", effect=-0.3)),
        ("d", compared("regressed", effect=-0.1, margin=0.01)),
        ("e", compared("held")),
    ]
    views = finding_views([claim(f"x2024.{name}", comparison=change) for name, change in rows])
    assert [c["finding"][-1] for c in changed([c for f in views for c in f["claims"]])] == ["d", "c", "b", "a"]


def test_a_baseline_without_comparisons_says_so() -> None:
    held = record([claim()])
    run = {**held.run, "baseline": {"name": "good", "saved": None, "tuned": None}}
    text = Page(render_html(RunRecord(schema=1, run=run, pairs=held.pairs, claims=held.claims))).text
    assert "Against baseline good: no claim could be compared." in text


FAR = {"effect": -0.4, "interval": [-0.5, -0.3], "verdict": "contradicted"}
NEAR = {"effect": -0.1, "interval": [-0.15, -0.06], "verdict": "contradicted"}
OPEN = {"effect": -2.0, "interval": [-5.0, 1.0], "verdict": "inconclusive"}
HOLDS = {"effect": 0.5, "interval": [0.4, 0.6], "verdict": "reproduced"}
BARELY = {"effect": 0.2, "interval": [0.06, 0.34], "verdict": "reproduced"}
DECLARED = {"expected": {"verdict": "contradicted", "reason": "known"}}
LESS, SAME = {"direction": "less"}, {"direction": "equivalent"}
REGRESSED = {"comparison": compared("regressed")}


@pytest.mark.parametrize(
    ("rows", "call", "found"),
    [
        ([HOLDS, NEAR, FAR, OPEN], "Worst claim", 2),
        ([HOLDS, OPEN, NEAR | DECLARED], "Worst claim", 1),
        ([NEAR | DECLARED, FAR | DECLARED], "Worst claim", 1),
        ([FAR, HOLDS | REGRESSED], "Worst claim", 1),
        ([OPEN | {"comparison": compared("inconclusive")}, HOLDS | REGRESSED], "Worst claim", 1),
        ([OPEN | REGRESSED, HOLDS | {"comparison": compared("regressed", effect=-0.9)}], "Worst claim", 1),
        ([HOLDS, BARELY], "Closest call", 1),
        ([HOLDS | LESS | {"effect": -0.5}, HOLDS | LESS | {"effect": -0.1}], "Closest call", 1),
        ([HOLDS | SAME | {"effect": -0.04}, HOLDS | SAME | {"effect": 0.01}], "Closest call", 0),
    ],
)  # fmt: skip
def test_the_worst_claim(rows: list[Row], call: str, found: int) -> None:
    claims = [claim(f"x2024.n{k}", **row) for k, row in enumerate(rows)]
    result = worst([c for f in finding_views(claims) for c in f["claims"]])
    assert result is not None
    assert (result[0], result[1]["finding"]) == (call, f"x2024.n{found}")


def test_a_regression_stands_as_the_worst_claim_with_its_change() -> None:
    page = Page(render_html(record([claim(**OPEN), claim("x2024.lost", **HOLDS, **REGRESSED)])))
    worst_claim = page.text[page.text.index("Worst claim") : page.text.index("Measured")]
    change = compared("regressed")
    assert f"▼ regressed {estimate(change['effect'], change['interval'])} , now reproduced" in worst_claim
    assert "inconclusive" not in worst_claim


def test_a_contradiction_that_was_declared_is_not_red() -> None:
    def tones(row: Row) -> set[str]:
        page = Page(render_html(record([claim(**row)])))
        classes = [attributes.get("class") or "" for _, attributes in page.elements]
        return {
            found for found in classes if "v-contradicted" in found and found != "mark v-contradicted"
        }  # of the legend

    assert all("declared" in found.split() for found in tones(FAR | DECLARED))
    assert {"chip v-contradicted declared", "ci v-contradicted declared"} <= tones(FAR | DECLARED)
    otherwise = {"expected": {"verdict": "reproduced", "reason": "known"}}
    assert {"chip v-contradicted", "ci v-contradicted"} <= tones(FAR | otherwise) & tones(FAR)


def test_nothing_tested_has_no_worst_claim() -> None:
    assert worst([c for f in finding_views([not_applicable()]) for c in f["claims"]]) is None


def test_the_command_to_repeat_the_run_and_the_checkpoints_are_on_the_first_screen() -> None:
    text = Page(render_html(full_record())).text
    first = text[: text.index("Findings, one by one")]
    for fact in ("pytest suites --pairs pairs.toml", "llama-7b", "float32 on cpu", "torch 2.13.0"):
        assert fact in first


def test_it_is_said_that_intervals_do_not_cover_training_again() -> None:
    said = "One trained checkpoint is one draw"
    held = record([claim()])
    assert said in Page(render_html(held)).text
    assert said in render_summary(held)
    without = record([not_applicable()])
    assert said not in Page(render_html(without)).text
    assert said not in render_summary(without)
