"""A prompt set that grows until it decides: the verdict is refused, and an honest larger set is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gate_records import FINDING, claim_with, record

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt, PromptSet
from tuneshift.run_record import write_record
from tuneshift.session.growing import EarlierRun
from tuneshift.session.requests import Target

BASE, TUNED = ModelRef(name="b", model="b"), ModelRef(name="t", model="t")
PRINTS = {BASE: "base" * 8, TUNED: "tuned" * 8}


def prompt_set(count: int, *, first: int = 0) -> PromptSet:
    prompts = tuple(
        Prompt(id=f"p{k}", prompt=f"Say {k}.", instruction_spans=((0, 3),)) for k in range(first, first + count)
    )
    return PromptSet(name="set", source="set.jsonl", prompts=prompts)


def target(prompts: PromptSet) -> Target:
    pair = ModelPair(name="pair", base=BASE, tuned=TUNED)
    return Target(pair=pair, prompts=prompts, group="all")


def earlier(tmp_path: Path, asked: PromptSet, *, verdict: str = "inconclusive", **details: object) -> EarlierRun:
    """The run before, whose record is there: one claim on ``asked``."""
    items = {
        "ids": [p.id for p in asked.prompts], "sha256": [p.sha256[:16] for p in asked.prompts],
        "clusters": [p.id for p in asked.prompts], "topics": [p.id for p in asked.prompts],
    }  # fmt: skip
    pair = {
        "name": "pair",
        "base": {"name": "b", "fingerprint": PRINTS[BASE]},
        "tuned": {"name": "t", "fingerprint": PRINTS[TUNED]},
        "prompts": [{"name": "set", "n": len(asked.prompts), "sha256": "x", "items": items}],
    }  # fmt: skip
    made = claim_with(verdict=verdict, reason="r", details={**claim_with()["details"], **details})
    return EarlierRun(path=write_record(replace(record([], [pair]), claims=[made]), tmp_path / "run.json"))


def test_more_prompts_of_a_set_that_was_left_open_decide_nothing(tmp_path):
    found = earlier(tmp_path, prompt_set(20)).grown(FINDING, target(prompt_set(30)), PRINTS.get)
    assert found is not None
    before, reason = found
    assert before == 20
    assert "grown from the 20 prompts on which" in reason
    assert "the 10 new prompts alone" in reason


def test_the_grown_set_asked_again_is_still_refused(tmp_path):
    again = earlier(tmp_path, prompt_set(30), grown_from=20)
    found = again.grown(FINDING, target(prompt_set(30)), PRINTS.get)
    assert found is not None
    assert found[0] == 20
    assert again.grown(FINDING, target(prompt_set(40)), PRINTS.get)[0] == 20


@pytest.mark.parametrize(
    ("asked", "now", "verdict", "prints"),
    [
        (prompt_set(20), prompt_set(20), "inconclusive", PRINTS),  # the same set again
        (prompt_set(20), prompt_set(30, first=20), "inconclusive", PRINTS),  # a fresh one
        (prompt_set(20), prompt_set(30), "reproduced", PRINTS),  # nothing was open
        (prompt_set(20), prompt_set(30), "inconclusive", {**PRINTS, TUNED: "another"}),  # another checkpoint
    ],
)  # fmt: skip
def test_what_is_not_grown_is_decided(tmp_path, asked, now, verdict, prints):
    assert earlier(tmp_path, asked, verdict=verdict).grown(FINDING, target(now), prints.get) is None


def test_no_record_and_a_damaged_one_say_nothing(tmp_path):
    assert EarlierRun(path=tmp_path / "run.json").grown(FINDING, target(prompt_set(30)), PRINTS.get) is None
    (tmp_path / "run.json").write_text("{}")
    assert EarlierRun(path=tmp_path / "run.json").grown(FINDING, target(prompt_set(30)), PRINTS.get) is None
    weights = replace(target(prompt_set(30)), prompts=None)
    assert earlier(tmp_path, prompt_set(20)).grown(FINDING, weights, PRINTS.get) is None
