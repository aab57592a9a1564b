"""What a baseline claims and a run does not: missing and red, or left out by the selection and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.cli import main
from tuneshift.gate.baselines import Baselines
from tuneshift.gate.compare import compare
from tuneshift.gate.missing import absent
from tuneshift.run_record import write_record

N = 40
VALUES = np.random.default_rng(0).normal(0.3, 0.2, size=N)
EVIDENCE = {"tuned generation": "a" * 64}


def made(*names: str):
    return [paired(VALUES, finding=replace(FINDING, id=name), evidence=EVIDENCE) for name in names]


BASELINE = record(made("a.first", "a.second", "a.third"), [pair_of(ids(N))])
PAIRS = [pair_of(ids(N))]
ERROR = {"pair": "pair", "finding": "a.second", "prompts": "set", "group": "all", "message": "out of memory"}


def place(finding: str) -> list[str]:
    return ["pair", finding, "set", "all"]


def rows(claims, *, errors=(), selection=None, pairs=None, left_out=(), baseline=BASELINE):
    found = absent(claims, errors, PAIRS if pairs is None else pairs, selection, left_out, baseline, "good")
    return [[(row["finding"], row["reason"]) for row in side] for side in found]


def test_of_a_whole_run_every_absent_claim_is_missing():
    missing, not_asked = rows(made("a.first"))
    assert [finding for finding, _ in missing] == ["a.second", "a.third"]
    assert not not_asked


def test_of_a_selection_what_was_asked_is_missing_and_the_rest_was_not_asked():
    selection = [place("a.first"), place("a.second")]
    missing, not_asked = rows(made("a.first"), selection=selection)
    assert missing == [("a.second", "Its test was selected and left no claim.")]
    assert not_asked == [("a.third", "Its test was not selected.")]


def two_pairs():
    """A baseline of two pairs with one claim each, and the first pair's part of a run."""
    claims = [paired(VALUES, pair=name, evidence=EVIDENCE) for name in ("one", "two")]
    pairs = [pair_of(ids(N), pair=name, base=name) for name in ("one", "two")]
    return record(claims, pairs), claims[:1], pairs[:1]


def test_a_selection_of_tests_does_not_leave_out_a_pair_or_a_prompt_set_that_the_run_no_longer_has():
    baseline, claims, pairs = two_pairs()
    selection = [["one", "a.first", "set", "all"]]
    missing, not_asked = rows(claims, selection=selection, pairs=pairs, baseline=baseline)
    assert missing == [("a.first", "This run has no pair two, which no selection of tests leaves out.")]
    assert not not_asked
    # The same pair on other prompts.
    other = [pair_of(ids(N), pair="one", base="one"), pair_of([f"new {i}" for i in ids(N)], pair="two", base="two")]
    missing, not_asked = rows(claims, selection=selection, pairs=other, baseline=baseline)
    assert missing == [("a.first", "This run has no prompt set set, which no selection of tests leaves out.")]
    assert not not_asked


def test_a_pair_that_the_run_leaves_out_by_name_was_not_asked():
    baseline, claims, pairs = two_pairs()
    selection = [["one", "a.first", "set", "all"]]
    missing, not_asked = rows(claims, selection=selection, pairs=pairs, left_out=["two"], baseline=baseline)
    assert not missing
    assert not_asked == [("a.first", "Its pair was not selected.")]


def test_what_could_not_be_made_is_missing_whatever_was_selected():
    missing, _ = rows(made("a.first"), errors=[ERROR], selection=[place("a.first")])
    assert missing == [("a.second", "It could not be made: out of memory")]


def test_pairs_and_prompt_sets_are_matched_as_comparisons_match_them():
    renamed = pair_of(ids(N), pair="nightly")
    renamed["prompts"][0]["name"] = "copy"
    claims = [{**claim, "pair": "nightly", "prompts": "copy"} for claim in made("a.first", "a.second", "a.third")]
    assert rows(claims, pairs=[renamed]) == [[], []]
    # Two pairs on the baseline's one: a claim of either is that claim.
    assert rows(claims, pairs=[renamed, pair_of(ids(N), pair="weekly")]) == [[], []]
    elsewhere = [["nightly", "a.second", "copy", "all"]]
    missing, not_asked = rows(claims[:1], pairs=[renamed], selection=elsewhere)
    assert [len(missing), len(not_asked)] == [1, 1]


def test_a_claim_that_applied_there_and_does_not_here_is_missing():
    here = record(made("a.first"), PAIRS)
    gone = {**here.claims[0], "verdict": "not_applicable", "effect": None, "reason": "no prompt has a verifier"}
    held = compare([gone], PAIRS, BASELINE, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert held["outcome"] == "missing"
    assert held["reason"].endswith("this run has none: no prompt has a verifier")
    never = replace(BASELINE, claims=[gone])
    for claim in (gone, here.claims[0]):  # applicable on neither side; new here
        held = compare([claim], PAIRS, never, name="good", margins={}, alpha=0.05)[0]["comparison"]
        assert held["outcome"] == "not_compared"


@pytest.mark.parametrize(
    ("selection", "options", "code", "said"),
    [
        (None, (), 1, "the gate is red: 1 missing"),
        (None, ("--allow-missing",), 0, "no loss beyond its margin in any of 2 claims; 1 missing, which is allowed"),
        ([place("a.first"), place("a.second")], (), 0, "not asked: 1 claim of the baseline (a.third on pair)"),
        ([place("a.first"), place("a.second")], (), 0, "no loss beyond its margin in any of 2 claims; 1 not asked"),
        ([place("a.first"), place("a.second"), place("a.third")], (), 1, "a.third, pair: Its test was selected"),
    ],
)
def test_the_command_is_red_where_a_claim_is_missing(tmp_path, capsys, selection, options, code, said):
    Baselines(folder=tmp_path / "kept").save(BASELINE, "good")
    path = write_record(record(made("a.first", "a.second"), PAIRS, selection=selection), tmp_path / "run.json")
    assert main(["gate", str(path), "--baseline", "good", "--storage", str(tmp_path / "kept"), *options]) == code
    assert said in capsys.readouterr().out


def test_where_everything_is_missing_none_of_it_can_be_allowed(tmp_path, capsys):
    Baselines(folder=tmp_path / "kept").save(BASELINE, "good")
    gone = [
        {**claim, "verdict": "not_applicable", "effect": None, "reason": "no prompt is left"}
        for claim in record(made("a.first", "a.second", "a.third"), PAIRS).claims
    ]
    path = write_record(record(gone, PAIRS), tmp_path / "run.json")
    told = ["gate", str(path), "--baseline", "good", "--storage", str(tmp_path / "kept"), "--allow-missing"]
    assert main(told) == 1
    assert "the gate is red: no claim was compared; 3 missing, which is allowed" in capsys.readouterr().out
