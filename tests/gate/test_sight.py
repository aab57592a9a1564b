"""What a gate says that it can see: against simulated runs, before and after a comparison, and what is asked of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.cli import main
from tuneshift.errors import UsageError
from tuneshift.gate.baselines import Baselines, Budget
from tuneshift.gate.claim_change import design_effect
from tuneshift.gate.compare import compare
from tuneshift.gate.sight import (
    draws_of,
    joined_sight,
    own_effect,
    planned_losses,
    planned_scatter,
    require_power,
    sight,
    sight_row,
    sight_text,
)
from tuneshift.plain import NOTHING
from tuneshift.run_record import write_record

RNG = np.random.default_rng(8)
RATES = {"alpha": 0.05, "shown": 0.05}


def outcomes(n: int, *, loss: float = 0.0, seed: int = 0):
    """A baseline of binary outcomes and another run: 5 % flip each way, and ``loss`` of them fail besides."""
    rng = np.random.default_rng(seed)
    old = (rng.random(n) < 0.5).astype(float)
    draws = rng.random(n)
    new = np.where(draws < 0.1, 1 - old, old)
    fall = (draws >= 0.1) & (old == 1) & (rng.random(n) < loss / 0.45)
    return old, np.where(fall, 0.0, new)


SMALL = {"a.first": 0.02}
"""A margin that is smaller than what is seen: a loss within the margin is held, however many prompts there are."""


def compared(old, new, *, span=(0.0, 1.0), margins=NOTHING):
    sides = [record([paired(x, span=span)], [pair_of(ids(len(x)))]) for x in (old, new)]
    run, baseline = sides[1], sides[0]
    return compare(run.claims, run.pairs, baseline, name="good", margins=margins, alpha=0.05)[0]["comparison"]


@pytest.mark.numerics
def test_a_loss_of_what_it_sees_is_red_in_four_of_five_runs():
    sees = np.median([compared(*outcomes(300, seed=seed))["sees"] for seed in range(5)])
    assert 0.05 < sees < 0.15
    red = [compared(*outcomes(300, loss=sees, seed=1000 + seed))["outcome"] in ("regressed", "worse")
           for seed in range(150)]  # fmt: skip
    assert np.mean(red) == pytest.approx(0.8, abs=0.1)  # three Monte-Carlo errors of 0.033


@pytest.mark.numerics
def test_more_prompts_see_more_and_the_plan_agrees_with_what_comes():
    planned, seen = [], []
    for n in (60, 240, 960):
        old, new = outcomes(n, seed=n)
        baseline = record([paired(old, span=(0.0, 1.0))], [pair_of(ids(n))])
        (row,) = planned_losses(baseline, SMALL, claims=1, **RATES)
        assert row["planned"]
        planned.append(row["loss"])
        seen.append(compared(old, new, margins=SMALL)["sees"])
    assert planned[0] > planned[1] > planned[2]
    assert planned == pytest.approx(seen, rel=0.25)  # a plan: what flips is assumed, what was seen is drawn


@pytest.mark.numerics
def test_where_the_evidence_is_the_same_the_plan_stands_and_says_so():
    old, _ = outcomes(240)
    held = compared(old, old)
    assert held["planned"]
    assert held["sees"] == pytest.approx(compared(*outcomes(240))["sees"], rel=0.25)  # as above
    assert compared(*outcomes(240, loss=0.2))["planned"] is False


def test_a_change_of_hardly_any_item_sees_no_less_than_the_plan():
    """One flip among sixty has a tiny error and an interval many times as long as t's, which a loss would not have."""
    old, _ = outcomes(60)
    new = old.copy()
    new[3] = 1 - new[3]
    held = compared(old, new, margins=SMALL)
    assert held["planned"]
    assert held["sees"] == compared(old, old, margins=SMALL)["sees"]


def test_two_prompts_without_a_range_see_nothing():
    held = compared(np.array([0.1, 0.4]), np.array([0.2, 0.3]), span=None)
    assert held["sees"] is None


def row(finding: str, loss: float | None, margin: float, **more):
    claim = {"finding": finding, "pair": "p", "prompts": "s", "group": "all", "unit": "share", "items": "prompts",
             "clusters": 100}  # fmt: skip
    return sight_row({**claim, **more}, loss, margin, planned=False)


def test_the_whole_gate_says_its_blindest_claim_on_prompts_in_margins():
    rows = [row("a.one", 0.1, 0.05), row("a.two", 0.3, 0.2), row("a.layers", 9.0, 0.01, items="layers")]
    seen = sight(rows)
    assert seen["last"]["finding"] == "a.one"
    assert sight_text(seen) == (
        "what it can see: a loss of 0.1 share in a.one (2 margins) would be red in 80 % of runs, in every other claim "
        "a smaller one, in margins"
    )
    assert joined_sight([sight(rows[:1]), sight(rows[1:2]), None]) == sight(rows[:2])
    blind = sight_text(sight([row("a.one", 0.1, 0.05, clusters=20), row("a.blind", None, 0.05)]))
    assert "a loss of at least 0.1 share" in blind
    assert "no loss of any size would be red in a.blind" in blind
    assert sight_text(sight([])) == ""


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            {None: 1.9},
            "a loss of 1.9 margins in a.one would be red in 80 % .* a loss of 2 margins, no smaller",
        ),
        ({"a.two": 0.2}, "a loss of 0.2 share in a.two .* a loss of 0.3 share, no smaller"),
        (
            {"a.three": 1.0},
            "names a.three, of which baseline 'good' holds nothing .*; it holds a.one, a.two",
        ),
        ({None: 2.0, "a.two": 0.3}, None),
    ],
)
def test_power_is_asked_in_margins_or_in_a_findings_unit(wanted, said):
    rows = [row("a.one", 0.1, 0.05), row("a.two", 0.3, 0.2)]
    if said is None:
        require_power(rows, wanted, "--min-power", "good")
        return
    with pytest.raises(UsageError, match=said):
        require_power(rows, wanted, "--min-power", "good")
    with pytest.raises(UsageError, match="no loss of any size"):
        require_power([row("a.one", None, 0.05)], {None: 100.0}, "--min-power", "good")


@pytest.mark.parametrize(("least", "code"), [("0.5", 4), ("10", 0), ("a.first=0.05", 4), ("a.first=x", 4), ("0", 4)])
def test_the_command_stops_where_it_sees_less_than_was_asked(tmp_path, capsys, least, code):
    old, new = outcomes(240)
    Baselines(folder=tmp_path / "kept").save(record([paired(old, span=(0.0, 1.0))], [pair_of(ids(240))]), "good")
    run = record([paired(new, span=(0.0, 1.0))], [pair_of(ids(240), tuned="next")])
    path = write_record(run, tmp_path / "run.json")
    arguments = ["gate", str(path), "--baseline", "good", "--storage", str(tmp_path / "kept"), "--min-power", least]
    assert main(arguments) == code
    if code == 0:
        assert "would be red in 80 % of runs" in capsys.readouterr().out


def test_bless_says_what_a_comparison_would_see(tmp_path, capsys):
    old, _ = outcomes(240)
    findings = [replace(FINDING, id=f"a.{k}") for k in range(3)]
    run = record([paired(old, finding=f, span=(0.0, 1.0)) for f in findings], [pair_of(ids(240))])
    path = write_record(run, tmp_path / "run.json")
    assert main(["bless", str(path), "--as", "good", "--storage", str(tmp_path / "kept")]) == 0
    said = capsys.readouterr().out
    assert "baseline good: what it can see: a loss of 0." in said
    assert "planned for 5 % of items that flip each way by themselves" in said


def test_whoever_has_seen_the_outcomes_has_looked_though_it_sees_too_little(tmp_path, capsys):
    old, new = outcomes(240)
    kept = Baselines(folder=tmp_path / "kept")
    budget = Budget(looks=2, spending="even", alpha=0.05)
    kept.save(record([paired(old, span=(0.0, 1.0))], [pair_of(ids(240))]), "good", budget=budget)
    run = record([paired(new, span=(0.0, 1.0))], [pair_of(ids(240), tuned="next")])
    path = write_record(run, tmp_path / "run.json")
    assert main(["gate", str(path), "--baseline", "good", "--storage", str(kept.folder), "--min-power", "0.01"]) == 4
    assert "look 1 of 2" in capsys.readouterr().out
    assert kept.next_look(kept.load("good"), 0.05, 1).number == 2


@pytest.mark.numerics
def test_the_plan_holds_tasks_fixed_as_the_gate_does():
    """Effects that differ by task enlarge the verdict's standard error, and say nothing of how a change scatters."""
    rng = np.random.default_rng(7)
    tasks = [f"t{k // 6}" for k in range(240)]
    names, moves = ids(240), (rng.random(40) < 0.5).repeat(6).astype(float)
    moves[::7] = 1 - moves[::7]
    baseline = record([paired(moves, span=(0.0, 1.0))], [pair_of(names, clusters=tasks)])
    (pair,) = baseline.pairs
    asked = pair["prompts"][0]
    own_topics = {**asked, "items": {**asked["items"], "topics": list(names)}}
    fixed = draws_of({**pair, "prompts": [own_topics]}, "set")
    claim = baseline.claims[0]
    assert design_effect(own_effect(claim, draws_of(pair, "set"))) > 2  # topics are the tasks themselves
    assert design_effect(own_effect(claim, fixed)) == 1
    wide, narrow = (planned_scatter(claim, draws).spread.error for draws in (draws_of(pair, "set"), fixed))
    assert wide > 1.3 * narrow
