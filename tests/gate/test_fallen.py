"""The items that a regression lost most on: by the change of what the claim is about, the worst first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.gate.compare import compare
from tuneshift.gate.fallen import fallen
from tuneshift.gate.text import explain_comparison


def claim(direction="greater", **arms):
    return {
        "direction": direction,
        "values": {label: {"ids": list(values), "x": list(values.values())} for label, values in arms.items()},
    }


BASE = {"a": 0.0, "b": 0.0, "c": 0.5}


@pytest.mark.parametrize(
    ("direction", "now", "names"),
    [
        ("greater", {"a": 1.0, "b": 0.1, "c": 0.2}, ["b", "c"]),
        ("greater", {"a": 1.0, "b": 1.0, "c": 1.0}, []),
        ("less", {"a": 1.5, "b": 1.0, "c": 1.25}, ["a", "c"]),
        ("equivalent", {"a": 1.5, "b": 0.25, "c": 1.0}, ["b", "a"]),
    ],
)
def test_the_worst_come_first_in_the_claims_direction(direction, now, names):
    then = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert fallen(claim(direction, base=BASE, tuned=now), claim(direction, base=BASE, tuned=then)) == names


def test_what_moved_in_both_arms_alike_did_not_fall_and_new_items_are_no_loss():
    then, now = claim(base=BASE, tuned={"a": 1.0, "b": 1.0, "c": 1.0}), {"a": -1.0, "b": 1.0, "new": -9.0}
    assert fallen(claim(base={"a": -2.0, "b": 0.0, "new": 0.0}, tuned=now), then) == []


def test_arms_of_different_items_are_looked_at_as_they_are():
    then, now = claim(low={"a": 0.5}, high={"b": 0.75}), claim(low={"a": 0.25}, high={"b": 0.5, "c": 0.0})
    assert fallen(now, then) == ["a", "b"]


def test_a_red_gate_names_five_and_a_green_one_none():
    n = 40
    old = np.full(n, 0.5) + np.linspace(0, 0.01, n)
    lost = np.where(np.arange(n) % 5 == 0, 0.9, 0.4) * (1 + np.arange(n) / 1000)

    def compared(values):
        baseline = record([paired(old)], [pair_of(ids(n))])
        new = record([paired(values)], [pair_of(ids(n), tuned="next")])
        return compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]

    red = compared(old - lost)
    assert red["comparison"]["outcome"] == "regressed"
    assert red["comparison"]["fallen"] == ["p035", "p030", "p025", "p020", "p015"]
    assert "  lost most on: p035, p030, p025, p020, p015" in explain_comparison(red).splitlines()
    assert "lost most" not in explain_comparison(compared(old))


def test_names_of_a_foreign_record_stay_on_their_line():
    found = {**compare_red(), "fallen": ["a\nb", "c\x1b"]}
    said = explain_comparison({**paired([0.1] * 8, finding=replace(FINDING)), "comparison": found})
    assert "  lost most on: a b, c<U+001B>" in said.splitlines()


def compare_red():
    old, new = record([paired([0.9] * 40)], [pair_of(ids(40))]), record(
        [paired(list(np.linspace(0, 0.1, 40)))], [pair_of(ids(40), tuned="next")]
    )  # fmt: skip
    return compare(new.claims, new.pairs, old, name="good", margins={}, alpha=0.05)[0]["comparison"]
