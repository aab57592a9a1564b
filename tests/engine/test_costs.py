"""costs.py: what measuring cost, a row for each measure of a checkpoint, kept by the engine and in the record."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

import tuneshift
from tuneshift.engine import costs
from tuneshift.engine.costs import LOADING, Cost, Meter, tokens_of
from tuneshift.engine.engine import Engine
from tuneshift.engine.plan import Planner
from tuneshift.engine.settings import Settings
from tuneshift.pairs import pair_of
from tuneshift.prompts.sets import load_prompts
from tuneshift.store.evidence import EvidenceItem
from tuneshift.store.store import Store

MB = 2**20


@pytest.fixture
def generation(tiny_base, tiny_tuned, tiny_prompts, tmp_path):
    """An engine on an empty store, and the tuned model's generation, six tokens each."""
    settings = Settings(max_new_tokens=6, device="cpu")
    pair = pair_of(str(tiny_base), str(tiny_tuned))
    task = Planner(settings=settings).task(pair, "tuned", "generation", load_prompts(str(tiny_prompts)))
    return Engine(store=Store(tmp_path), settings=settings), task


def test_what_is_measured_has_a_row_and_what_is_stored_has_none(generation):
    engine, task = generation
    began = time.monotonic()
    items = engine.evidence(task).items
    spent = time.monotonic() - began
    loading, generated = engine.costs
    assert (loading.measure, loading.items, loading.checkpoint) == (LOADING, 0, "tiny-tuned")
    assert (generated.measure, generated.items, generated.on) == ("generation", 20, "tiny")
    assert generated.tokens == sum(len(item.arrays["response_ids"]) for item in items)
    assert loading.seconds > 0
    assert generated.seconds > 0
    assert loading.seconds + generated.seconds < spent  # loading is in no other row
    again = Engine(store=engine.store, settings=engine.settings)
    again.evidence(task)
    assert again.costs == []


def test_a_measure_that_fails_has_its_row_too(generation, monkeypatch):
    engine, task = generation

    def failing(*_: object) -> object:
        raise RuntimeError("no")

    monkeypatch.setattr("tuneshift.measures.generation.generation", failing)
    engine.complete([task])
    assert [(cost.measure, cost.items) for cost in engine.costs] == [(LOADING, 0), ("generation", 0)]


def test_seconds_are_charged_once_to_the_first_that_asks(generation):
    engine, task = generation
    engine.costs += [
        Cost(digest=digest, measure="m", checkpoint="c", on="s", items=1, tokens=None, seconds=seconds, paths={},
             start_bytes=None, peak_bytes=None)
        for digest, seconds in ((task.key.digest, 2.0), ("of another task", 5.0))
    ]  # fmt: skip
    assert engine.charge([task]) == 2.0
    assert engine.charge([task]) == 0.0


def test_tokens_are_those_that_the_evidence_names():
    ids = np.zeros(3, dtype=np.int64)
    generated = EvidenceItem(id="a", arrays={"response_ids": ids, "thought_ids": ids[:1]})
    attributed = EvidenceItem(id="a", values={"tokens": ["x"] * 5, "response_tokens": ["y"] * 2})
    scored = EvidenceItem(id="a", arrays={"lengths": np.array([2, 3])})
    passage = EvidenceItem(id="a", arrays={"logprob": np.array(-9.0), "tokens": np.array(6)})
    assert [tokens_of(item) for item in (generated, attributed, scored, passage)] == [4, 7, 5, 6]
    assert tokens_of(EvidenceItem(id="layer.0", arrays={"counts": ids})) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the largest resident size and resets it")
def test_peak_memory_is_that_of_this_measure_and_not_of_an_earlier_one(generation):
    _, task = generation
    large = np.ones(300 * MB // 8)
    del large
    meter = Meter()
    held = np.ones(100 * MB // 8)
    del held
    cost = meter.cost(task)
    assert cost.peak_bytes is not None
    assert cost.start_bytes is not None
    assert 90 * MB < cost.peak_bytes - cost.start_bytes < 200 * MB


def test_a_system_that_tells_nothing_leaves_memory_open(generation, monkeypatch, tmp_path):
    _, task = generation
    for name in ("_STATUS", "_RESET"):
        monkeypatch.setattr(costs, name, tmp_path / "gone" / "file")
    cost = Meter().cost(task)
    assert (cost.start_bytes, cost.peak_bytes) == (None, None)


def test_a_script_has_costs_in_its_record(tiny_base, tiny_tuned, tiny_prompts, tmp_path):
    made = tuneshift.run(
        tiny_base, tiny_tuned, findings="hewitt2024.tuned_follows", prompts=tiny_prompts, store=tmp_path,
        max_new_tokens=6, base_format="none",
    )  # fmt: skip
    assert [row["measure"] for row in made.run["costs"]] == [LOADING, "generation"] * 2
    assert all(set(row) == set(made.run["costs"][0]) for row in made.run["costs"])
