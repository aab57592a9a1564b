"""What a gate says in a line, and in the annotation of a CI."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.gate.compare import compare
from tuneshift.gate.look import gate_summary
from tuneshift.gate.text import ci_annotations, conclusion, write_comparisons

ABSENT = {"finding": "a.gone", "pair": "p", "prompts": "s", "group": "all", "effect": 0.3, "unit": "u", "reason": "r"}


def claims(*outcomes: str):
    """Claims with these outcomes and one without a comparison; of ``unknown`` no change could be found."""
    effect = {"unknown": None, "missing": None, "not_compared": None}
    return [
        {"comparison": {"outcome": {"unknown": "inconclusive"}.get(o, o), "effect": effect.get(o, 0.1)}}
        for o in outcomes
    ] + [{"comparison": None}]


@pytest.mark.parametrize(
    ("outcomes", "missing", "allow", "said", "colour"),
    [
        (("held", "improved"), 0, False, "no loss beyond its margin in any of 2 claims", "green"),
        (("held", "inconclusive"), 0, False, "no loss shown; 1 claim cannot say", "yellow"),
        (("inconclusive", "inconclusive", "held"), 0, False, "no loss shown; 2 claims cannot say", "yellow"),
        (("regressed", "worse", "inconclusive"), 0, False,
         "the gate is red: 1 regressed, 1 worse; 1 claim cannot say", "red"),
        (("held", "missing"), 2, False, "the gate is red: 3 missing", "red"),
        (("held", "missing"), 2, True, "no loss beyond its margin in the one claim; 3 missing, which is allowed",
         "green"),
        (("missing",), 2, True, "the gate is red: no claim was compared; 3 missing, which is allowed", "red"),
        (("unknown", "unknown"), 0, False, "the gate is red: no claim was compared; 2 claims cannot say", "red"),
        (("held", "unknown"), 0, False, "no loss shown; 1 claim cannot say", "yellow"),
        (("not_compared",), 0, False, "no loss shown; no claim was compared", "yellow"),
    ],
)  # fmt: skip
def test_the_whole_gate_in_a_line(outcomes, missing, allow, said, colour):
    assert conclusion(claims(*outcomes), [ABSENT] * missing, [], allow_missing=allow) == (said, colour)
    summary = gate_summary(claims(*outcomes), [ABSENT] * missing, [], None, allow_missing=allow)
    assert (summary["conclusion"], summary["colour"], summary["red"]) == (said, colour, colour == "red")
    kind = {"red": "error", "yellow": "warning", "green": "notice"}[colour]
    assert ci_annotations(summary) == [f"::{kind} title=tuneshift gate::{said}"]


def test_what_was_not_asked_is_said_beside_what_held():
    said = conclusion(claims("held", "held"), [], [ABSENT], allow_missing=False)
    assert said == ("no loss beyond its margin in any of 2 claims; 1 not asked", "green")


def test_an_annotation_is_one_line_whatever_a_name_holds():
    summary = {"conclusion": "80 %\n::error::owned", "colour": "yellow", "sees_text": ""}
    (line,) = ci_annotations(summary)
    assert line == "::warning title=tuneshift gate::80 %25 ::error::owned"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_of_comparisons_fits_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    long = replace(FINDING, id="someone2026.a_finding_with_quite_a_long_name_of_its_own")
    baseline = record([paired([0.4, 0.5, 0.9] * 20, finding=long)], [pair_of(ids(60))])
    new = record([paired([0.1, 0.0, 0.2] * 20, finding=long)], [pair_of(ids(60), tuned="next")])
    found = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)
    against = {"name": "good", "saved": "2026-01-01", "tuned": "tuned", "look": None, "looks": None, "shown": 0.05,
               "claims": 1}  # fmt: skip
    claims = [{**one, "comparison": {**one["comparison"], "against": against}} for one in found]
    written: list[tuple[str, dict[str, bool]]] = []
    terminal = SimpleNamespace(
        write_line=lambda text, **style: written.append((text, style)), write_sep=lambda *a: written.append(("sep", {}))
    )
    write_comparisons(terminal, claims, gate_summary(claims, [], [], None, allow_missing=False))
    end = next(k for k, (text, _) in enumerate(written) if text.startswith(("the gate is red", "1 regressed")))
    table = written[1:end]
    assert all(len(text) <= columns for text, _ in table)
    assert {"red": True} in [style for _, style in table]
    shown = " ".join(text for text, _ in table)
    assert long.id in shown
    assert "▼ regressed" in " ".join(shown.split())
    assert ("margin -0.1" in shown) == (columns < 120)


def test_a_claim_that_holds_though_its_shown_interval_reaches_the_margin_says_by_what():
    """The interval shown is at a share of the error rate, the one-sided end that holds is not: both in one line."""
    old = np.random.default_rng(0).normal(0.4, 0.5, size=60)
    baseline = record([paired(old)], [pair_of(ids(60))])
    written: list[str] = []
    terminal = SimpleNamespace(write_line=lambda text, **style: written.append(text), write_sep=lambda *a: None)
    for spread, told in ((0.38, True), (0.05, False)):
        moved = np.random.default_rng(1).normal(size=60)
        new = record([paired(old + spread * (moved - moved.mean()))], [pair_of(ids(60), tuned="next")])
        found = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05, shared_by=4)
        assert found[0]["comparison"]["outcome"] == "held"
        assert (found[0]["comparison"]["interval"][0] <= -0.1) == told
        against = {"name": "good", "saved": "2026-01-01", "tuned": "tuned", "look": None, "looks": None, "shown": 0.05,
                   "claims": 4}  # fmt: skip
        claims = [{**one, "comparison": {**one["comparison"], "against": against}} for one in found]
        written.clear()
        write_comparisons(terminal, claims, gate_summary(claims, [], [], None, allow_missing=False))
        assert any("at the one-sided rate 0.05, does not reach the margin" in line for line in written) == told
