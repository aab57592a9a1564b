"""Evidence that is already in the store under another key, written under a task's own: nothing is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..plain import Json
from ..store.evidence import Evidence, EvidenceItem, EvidenceKey
from ..store.session import OWN_FIELDS, Progress
from ..store.store import Store
from .plan import Task


def stored(task: Task, store: Store) -> Progress:
    """How many of a task's items need no measuring: those under its key, or all where wider evidence is whole."""
    own = store.status(task.key, task.ids)
    return own if own.complete or wider_key(task, store) is None else Progress(stored=own.total, total=own.total)


def wider_key(task: Task, store: Store) -> EvidenceKey | None:
    """The key of whole evidence in the store that holds all of a task's and more; None where there is none."""
    return next((key for key in task.wider if store.status(key, task.ids).complete), None)


def copy_from_wider(task: Task, store: Store) -> bool:
    """Write a task's evidence from wider evidence; False where the store has none that is whole. Raises as the store
    does."""
    key = wider_key(task, store)
    if key is None:
        return False
    write_copy(
        store, store.read(key), task, {"narrowed_from": key.digest}, lambda i: task.measure.narrow(i, task.params)
    )
    return True


def write_copy(
    store: Store,
    evidence: Evidence,
    task: Task,
    said: Mapping[str, Json],
    change: Callable[[EvidenceItem], EvidenceItem] = lambda item: item,
) -> None:
    """Write evidence under a task's key, each item changed; ``said`` adds to its provenance."""
    items = {item.id: item for item in evidence.items}
    made = {name: value for name, value in evidence.provenance.items() if name not in OWN_FIELDS}
    measure = task.measure
    with store.session(task.key, task.ids, {**made, **said}, chunk_size=measure.small_chunk or measure.chunk) as new:
        for number, ids in new.missing:
            new.write(number, [change(items[i]) for i in ids])
