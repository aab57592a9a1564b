"""Baselines on disk: what is kept, what is refused, looks, and that nothing saved is ever lost."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.errors import RecordError, UsageError
from tuneshift.gate import baselines as module
from tuneshift.gate.baselines import Baselines, Budget
from tuneshift.gate.look import gated
from tuneshift.plain import digest
from tuneshift.statistics.look_budget import SMALLEST

RUN = record([paired(np.linspace(0, 1, 30))], [pair_of(ids(30))])


def save(folder: Path, name: str = "good", run=RUN, **more):
    return Baselines(folder=folder).save(run, name, **{"overwrite": False, "allow": "--force", **more})


def test_a_baseline_comes_back_with_what_a_comparison_reads(tmp_path):
    save(tmp_path)
    found = Baselines(folder=tmp_path).load("good")
    assert found.record.claims[0]["values"] == RUN.claims[0]["values"]
    assert found.record.pairs == RUN.pairs
    assert found.described() == {"name": "good", "saved": RUN.run["finished"], "tuned": "tuned"}


def test_five_hundred_prompts_and_thirteen_findings_fit_in_a_megabyte(tmp_path):
    names = [f"category-{k:03}-variant-{k % 7}" for k in range(500)]
    rng = np.random.default_rng(0)
    claims = [paired(rng.normal(size=500), finding=replace(FINDING, id=f"author2024.finding_{k}"), names=names)
              for k in range(13)]  # fmt: skip
    path = save(tmp_path, run=record(claims, [pair_of(names)]))
    assert 300_000 < path.stat().st_size <= 1_000_000


def test_a_taken_name_is_refused_and_the_old_one_kept(tmp_path):
    before = save(tmp_path).read_bytes()
    other = record([paired(np.zeros(30))], [pair_of(ids(30), tuned="next")])
    with pytest.raises(UsageError, match=r"'good' is already there.*--force replaces it"):
        save(tmp_path, run=other)
    assert (tmp_path / "good" / "baseline.json").read_bytes() == before
    save(tmp_path, run=other, overwrite=True)
    assert Baselines(folder=tmp_path).load("good").described()["tuned"] == "next"


def test_an_overwrite_that_fails_keeps_the_old_one(tmp_path, monkeypatch):
    before = save(tmp_path).read_bytes()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "publish", full)
    with pytest.raises(RecordError, match="No space left"):
        save(tmp_path, overwrite=True)
    assert (tmp_path / "good" / "baseline.json").read_bytes() == before


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a baseline"):
        save(tmp_path, name)
    with pytest.raises(UsageError, match="cannot name a baseline"):
        Baselines(folder=tmp_path).load(name)
    assert not list(tmp_path.rglob("*.json"))


def test_a_missing_baseline_names_the_near_miss(tmp_path):
    save(tmp_path)
    with pytest.raises(UsageError, match=r"no baseline 'goood'.*did you mean 'good'"):
        Baselines(folder=tmp_path).load("goood")


def rewritten(path: Path, change) -> None:
    """The file with its contents changed and its checksum made right again."""
    data = json.loads(path.read_text())
    change(data)
    data["sha256"] = digest({"record": data["record"], "budget": data["budget"]})
    path.write_text(json.dumps(data))


def flip(path: Path) -> None:
    path.write_text(path.read_text().replace('"effect":0.5', '"effect":0.6', 1))


def nan(path: Path) -> None:
    path.write_text(path.read_text().replace('"x":[0.0', '"x":[NaN', 1))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: p.write_text(p.read_text()[:-40]), "is damaged: not JSON"),
        (flip, "its checksum does not fit"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "is damaged: not JSON: byte 0 is not UTF-8"),
        (lambda p: p.write_text('{"machine_info": {}, "benchmarks": []}'), "is not a baseline of tuneshift"),
        (lambda p: p.write_text("[]"), "is not a baseline of tuneshift"),
        (lambda p: rewritten(p, lambda d: d.update(format=2)), "has format 2, this tuneshift reads 1"),
        (lambda p: rewritten(p, lambda d: d["record"].update(schema=2)), "has schema 2, this tuneshift reads 1"),
        (lambda p: rewritten(p, lambda d: d["record"]["claims"][0].pop("values")), "is damaged"),
        (nan, r"holds a value that is no number: nan for item p000 \(base\) of a\.first"),
        (
            lambda p: rewritten(p, lambda d: d["record"]["claims"][0]["values"]["tuned"]["x"].__setitem__(3, None)),
            r"no number: None for item p003 \(tuned\)",
        ),
    ],
)
def test_a_baseline_that_cannot_be_used_is_a_usage_error_and_left_as_it_is(tmp_path, break_it, message):
    path = save(tmp_path)
    break_it(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message):
        Baselines(folder=tmp_path).load("good")
    assert path.read_bytes() == before


def test_a_record_with_a_value_that_is_no_number_is_not_saved(tmp_path):
    broken = json.loads(json.dumps(RUN.claims))
    broken[0]["values"]["tuned"]["x"][2] = None
    with pytest.raises(UsageError, match="no number"):
        save(tmp_path, run=replace(RUN, claims=broken))
    assert not list(tmp_path.rglob("*.json"))


def _save_in_process(folder: Path, name: str, tuned: str, results) -> None:
    run = record([paired(np.linspace(0, 1, 30))], [pair_of(ids(30), tuned=tuned)])
    try:
        save(folder, name, run=run)
        results.put(tuned)
    except UsageError:
        results.put(None)


@pytest.mark.parametrize("same", [True, False])
def test_two_saved_at_once(tmp_path, same):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    names = ("good", "good") if same else ("good", "other")
    started = [context.Process(target=_save_in_process, args=(tmp_path, name, tuned, results))
               for name, tuned in zip(names, ("one", "two"), strict=True)]  # fmt: skip
    for process in started:
        process.start()
    saved = [tuned for _ in started if (tuned := results.get(timeout=60))]
    for process in started:
        process.join(timeout=60)
    assert len(saved) == (1 if same else 2)
    there = [Baselines(folder=tmp_path).load(name).described()["tuned"] for name in dict.fromkeys(names)]
    assert sorted(there) == sorted(saved)


def moved(seed: int):
    values = np.linspace(0, 1, 30) + np.random.default_rng(seed).normal(0, 0.1, size=30)
    return record([paired(values)], [pair_of(ids(30))])


def spend(storage: Baselines, run, name: str = "good"):
    """The look that a run takes, spent as at its end."""
    baseline = storage.load(name)
    look = storage.known_look(baseline, run.claims, 1, 0.05)
    storage.take(baseline, look, run.claims, 1)
    return look


@pytest.mark.numerics
def test_each_decision_spends_a_look_the_same_run_again_none_and_then_they_are_spent(tmp_path):
    storage = Baselines(folder=tmp_path)
    save(tmp_path, budget=Budget(looks=2, spending="even", alpha=0.05))
    baseline = storage.load("good")

    def look(seed):
        run = moved(seed)
        taken = spend(storage, run)
        found = gated(baseline, taken, run.claims, (), run.pairs, selection=None, left_out=(), versions={}, margins={},
                      allow_missing=False)  # fmt: skip
        held = found.claims[0]["comparison"]
        return held["against"]["look"], held["against"]["shown"], held["level"]

    assert look(0) == (1, 0.025, pytest.approx(0.975))
    assert look(0)[0] == 1
    storage.require_a_look(baseline)
    assert look(1)[0] == 2
    with pytest.raises(UsageError, match=r"All 2 looks at baseline 'good' are taken.*--force --looks 2"):
        look(2)
    with pytest.raises(UsageError, match="All 2 looks"):
        storage.require_a_look(baseline)
    assert look(0)[0] == 1


@pytest.mark.numerics
def test_a_look_is_spent_only_by_what_was_decided_at_it_and_written(tmp_path):
    storage = Baselines(folder=tmp_path)
    save(tmp_path, budget=Budget(looks=3, spending="even", alpha=0.06))
    baseline = storage.load("good")
    first, second = (storage.next_look(baseline, 0.06, 1) for _ in range(2))  # two runs that are under way
    assert first == second
    assert (first.number, first.looks, first.alpha, first.shown) == (1, 3, 0.06, pytest.approx(0.02))
    assert not (tmp_path / "good" / "looks.json").exists()  # the run may still fail
    storage.take(baseline, first, [], 1)
    assert storage.next_look(baseline, 0.06, 1).number == 1
    storage.take(baseline, first, moved(0).claims, 1)
    storage.take(baseline, second, moved(1).claims, 1)  # taken meanwhile: it counts as the next, of the same rate
    assert storage.next_look(baseline, 0.06, 1).number == 3


def test_a_look_that_was_taken_meanwhile_does_not_count_where_the_next_may_spend_less(tmp_path):
    storage = Baselines(folder=tmp_path)
    save(tmp_path, budget=Budget(looks=3, spending="pocock", alpha=0.05))
    baseline = storage.load("good")
    look = storage.next_look(baseline, 0.05, 1)
    storage.take(baseline, look, moved(0).claims, 1)
    with pytest.raises(RecordError, match="Another run took look 1 at baseline 'good'"):
        storage.take(baseline, look, moved(1).claims, 1)
    assert storage.next_look(baseline, 0.05, 1).number == 2
    for seed in (2, 3):
        spend(storage, moved(seed))
    assert storage.counts_as(baseline, look, moved(1).claims, 1) == look  # the last was taken meanwhile, too
    with pytest.raises(RecordError, match="Another run took look 1"):
        storage.take(baseline, look, moved(1).claims, 1)


def test_the_same_values_again_take_no_look_where_the_level_is_the_same(tmp_path):
    storage = Baselines(folder=tmp_path)
    for spending, left in (("even", 2), ("pocock", 1)):
        save(tmp_path, overwrite=True, run=moved(left), budget=Budget(looks=3, spending=spending, alpha=0.05))
        baseline, run, numbers = storage.load("good"), moved(7), []
        for _ in range(2):  # pytest decides at the next look before it knows the values
            look = storage.counts_as(baseline, storage.next_look(baseline, 0.05, 1), run.claims, 1)
            storage.take(baseline, look, run.claims, 1)
            numbers.append(look.number)
        assert numbers == ([1, 1] if spending == "even" else [1, 2])
        for seed in range(left):
            spend(storage, moved(20 + seed))
        with pytest.raises(UsageError, match="All 3 looks"):
            spend(storage, moved(30))


@pytest.mark.numerics
def test_the_first_look_of_obrien_and_fleming_has_a_level_and_is_not_lost(tmp_path):
    """Its share of the rate is 1e-26: 1 less that is 1, which no interval has, and the look was spent on the crash."""
    storage = Baselines(folder=tmp_path)
    save(tmp_path, budget=Budget(looks=30, spending="obrien-fleming", alpha=0.05))
    run = moved(3)
    look = spend(storage, run)
    assert (look.number, look.shown) == (1, pytest.approx(SMALLEST))
    found = gated(storage.load("good"), look, run.claims, (), run.pairs, selection=None, left_out=(),
                  versions={}, margins={}, allow_missing=False)  # fmt: skip
    held = found.claims[0]["comparison"]
    assert held["outcome"] == "held"
    assert held["level"] == 1 - SMALLEST


def test_a_budget_that_leaves_its_last_look_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--looks 10000 --spending obrien-fleming: .*fewer looks"):
        save(tmp_path, budget=Budget(looks=10_000, spending="obrien-fleming", alpha=1e-8))


def test_a_baseline_that_is_replaced_starts_its_looks_anew(tmp_path):
    storage = Baselines(folder=tmp_path)
    budget = Budget(looks=1, spending="pocock", alpha=0.05)
    save(tmp_path, budget=budget)
    spend(storage, moved(0))
    save(tmp_path, run=moved(5), overwrite=True, budget=budget)
    assert spend(storage, moved(1)).number == 1


def test_damaged_looks_give_no_level(tmp_path):
    storage = Baselines(folder=tmp_path)
    save(tmp_path, budget=Budget(looks=3, spending="even", alpha=0.05))
    (tmp_path / "good" / "looks.json").write_text("{")
    with pytest.raises(UsageError, match=r"looks\.json.*is damaged"):
        spend(storage, moved(0))


@pytest.mark.parametrize(
    "budget", [Budget(looks=0, spending="even", alpha=0.05), Budget(looks=3, spending="evn", alpha=0.05)]
)
def test_a_budget_that_is_none_is_refused(tmp_path, budget):
    with pytest.raises(UsageError, match=r"--looks is 0|did you mean 'even'"):
        save(tmp_path, budget=budget)
