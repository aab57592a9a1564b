"""Steps: each task once, after what it rests on, and no more loads of a checkpoint than that asks for."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.engine.plan import Task
from tuneshift.engine.steps import Step, plan_lines, steps
from tuneshift.measures.catalogue import Measure
from tuneshift.prompts.prompt import Prompt
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.store import Store

UNITS = tuple(Prompt(id=i, prompt="Do.", instruction_spans=((0, 3),)) for i in "ab")


def task(checkpoint: str, measure: str, depends_on: Task | None = None) -> Task:
    """A task of the measure on the checkpoint."""
    key = EvidenceKey(measure=measure, version=1, params={}, checkpoint=checkpoint, dtype="float32", prompts="p")
    return Task(
        ref=ModelRef(name=checkpoint, model=checkpoint),
        measure=Measure(name=measure, version=1, chunk=2, preparation=""),
        params={},
        units=UNITS,
        on="set",
        key=key,
        depends_on=depends_on,
    )


def shown(made: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.ref.name, "".join(t.measure.name for t in step.tasks)) for step in made]


def random_tasks(seed: int, *, downward: bool) -> list[Task]:
    """Tasks of four checkpoints, each resting on an earlier one or on none. ``downward``: on its own checkpoint's or
    an earlier checkpoint's, so that checkpoints do not rest on each other."""
    rng = random.Random(seed)
    made: list[Task] = []
    for number in range(rng.randint(1, 14)):
        name = rng.choice("ABCD")
        under = [t for t in made if not downward or t.ref.name <= name]
        made.append(task(name, f"m{number};", rng.choice([None, *under])))
    rng.shuffle(made)
    return made


@pytest.mark.parametrize("downward", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_every_task_comes_once_after_what_it_rests_on(seed: int, downward: bool) -> None:
    given = random_tasks(seed, downward=downward)
    made = steps(given)
    order = [t.key.digest for step in made for t in step.tasks]
    assert sorted(order) == sorted(t.key.digest for t in given)
    for t in given:
        assert t.depends_on is None or order.index(t.depends_on.key.digest) < order.index(t.key.digest)
    assert all(t.ref == step.ref for step in made for t in step.tasks)
    names = [step.ref.name for step in made]
    assert all(one != other for one, other in pairwise(names))  # no step that could be part of one
    if downward:
        assert len(names) == len(set(names))  # where checkpoints do not rest on each other, each is loaded once


def test_what_a_task_rests_on_is_added_and_what_two_rest_on_comes_once() -> None:
    root = task("T", "g")
    assert shown(steps([task("B", "x", root), task("B", "y", root)])) == [("T", "g"), ("B", "xy")]
    assert steps([]) == ()


def test_two_tasks_of_one_key_are_one() -> None:
    assert shown(steps([task("B", "x"), task("B", "x"), task("T", "x")])) == [("B", "x"), ("T", "x")]


def test_a_checkpoint_waits_until_all_its_tasks_can_run() -> None:
    late = task("B", "late", task("T", "g"))
    assert shown(steps([task("B", "early"), late])) == [("T", "g"), ("B", "earlylate")]


def test_checkpoints_that_rest_on_each_other_cost_one_load_more() -> None:
    generated = {name: task(name, "g") for name in "BT"}
    crossed = [task("B", "a", generated["T"]), task("T", "a", generated["B"])]
    assert shown(steps(crossed)) == [("T", "g"), ("B", "ag"), ("T", "a")]


def test_plan_lines_are_in_running_order_with_what_is_stored_and_leave_the_store_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = task("T", "g")
    with store.session(first.key, first.ids, {}, chunk_size=2) as session:
        for number, ids in session.missing:
            session.write(number, [EvidenceItem(id=i) for i in ids])
    before = sorted(tmp_path.rglob("*"))
    lines = plan_lines([task("B", "a", first)], store, again=True)
    assert [(line.task.ref.name, line.progress.stored, line.progress.total) for line in lines] == [
        ("T", 2, 2), ("B", 0, 2),
    ]  # fmt: skip
    assert all(line.again for line in lines)
    assert not any(line.again for line in plan_lines([first], store))
    assert sorted(tmp_path.rglob("*")) == before
