"""Tasks in an order that can be run: as few loads of a checkpoint as their dependencies allow, and what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..checkpoints.refs import ModelRef
from ..errors import MeasureError
from ..store.session import Progress
from ..store.store import Store
from .copies import stored
from .plan import Task


@dataclass(frozen=True, kw_only=True)
class Step:
    """Consecutive tasks of one checkpoint: it is loaded for the first and freed after the last."""

    ref: ModelRef
    tasks: tuple[Task, ...]


def steps(tasks: Iterable[Task]) -> tuple[Step, ...]:
    """Tasks and what they rest on, each once, as steps per checkpoint; as few loads as the dependencies allow.

    A checkpoint whose remaining tasks can all run goes first; else one with any that can. Only a pair and its
    reverse in one run, each on the other's responses, loads a checkpoint twice.
    """
    waiting = _closure(tasks)
    done: set[str] = set()
    result: list[Step] = []
    while waiting:
        by_ref: dict[ModelRef, list[Task]] = {}
        for task in waiting.values():
            by_ref.setdefault(task.ref, []).append(task)
        runnable = {ref: _runnable(group, done) for ref, group in by_ref.items()}
        whole = [ref for ref, group in by_ref.items() if len(runnable[ref]) == len(group)]
        some = [ref for ref in by_ref if runnable[ref]]
        if not some:
            raise MeasureError("tasks rest on one another in a circle")
        ref = (whole or some)[0]
        result.append(Step(ref=ref, tasks=tuple(runnable[ref])))
        for task in runnable[ref]:
            done.add(task.key.digest)
            del waiting[task.key.digest]
    return tuple(result)


def _closure(tasks: Iterable[Task]) -> dict[str, Task]:
    found: dict[str, Task] = {}

    def add(task: Task) -> None:
        if task.depends_on is not None:
            add(task.depends_on)
        found.setdefault(task.key.digest, task)

    for task in tasks:
        add(task)
    return found


def _runnable(group: Sequence[Task], done: set[str]) -> list[Task]:
    """Those of one checkpoint's tasks that can run now, one after the other."""
    ready: list[Task] = []
    finished = set(done)
    for task in group:
        if task.depends_on is None or task.depends_on.key.digest in finished:
            ready.append(task)
            finished.add(task.key.digest)
    return ready


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of ``--shift-plan``: a task and how much of it the store already holds.

    ``again``: whether it measures a second time, for the noise floor.
    """

    task: Task
    progress: Progress
    again: bool = False


def plan_lines(tasks: Iterable[Task], store: Store, *, again: bool = False) -> tuple[Line, ...]:
    """Every task in running order with its progress; reads the store's index only and loads no weights."""
    return tuple(
        Line(task=task, progress=stored(task, store), again=again) for step in steps(tasks) for task in step.tasks
    )
