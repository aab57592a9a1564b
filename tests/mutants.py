"""Damaged files of a store, a baseline and a run record, one mutant a seed: what tests/test_mutants.py tries a few of
and tests/campaign.py a thousand."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gate_records as gr
import numpy as np
from hostile_values import byte_mutant, json_mutant

from tuneshift.cli import main
from tuneshift.errors import StoreError, UsageError
from tuneshift.gate.baselines import Baselines, Budget
from tuneshift.parse import fault_of_name
from tuneshift.run_record import RunRecord, write_record
from tuneshift.store.evidence import Evidence, EvidenceItem, EvidenceKey
from tuneshift.store.files import EvidenceWarning
from tuneshift.store.store import Store

KEY = EvidenceKey(
    measure="density", version=1, params={"response": "own"}, checkpoint="c", dtype="float32", prompts="p"
)
IDS = tuple(f"p{k}" for k in range(6))
USAGE = 4
COMMANDS = ("gate", "report", "bless", "merge")


class Silent(Exception):
    """Something is believed that is not what was written."""


def items(ids: tuple[str, ...]) -> list[EvidenceItem]:
    return [
        EvidenceItem(id=i, arrays={"x": np.arange(4, dtype=np.float32) + int(i[1:])}, values={"text": f"red {i}"})
        for i in ids
    ]


def held(evidence: Evidence) -> list[tuple[object, ...]]:
    return [(i.id, i.left_out, dict(i.values), {n: a.tolist() for n, a in i.arrays.items()}) for i in evidence.items]


TRUE = held(Evidence(key=KEY, items=tuple(items(IDS)), provenance={}))


def measure(store: Store) -> int:
    """Measure what is missing; the number of items that were measured."""
    count = 0
    with store.session(KEY, IDS, {"device": "cpu"}, chunk_size=2) as session:
        for number, ids in session.missing:
            session.write(number, items(ids))
            count += len(ids)
    return count


@cache
def some_record() -> RunRecord:
    rng = np.random.default_rng(0)
    second = replace(gr.FINDING, id="b.second")
    claims = [gr.paired(rng.normal(0.5, 0.2, 20)), gr.paired(rng.normal(0.3, 0.2, 20), finding=second)]
    return gr.record(claims, [gr.pair_of(gr.ids(20))])


def damage_(path: Path, rng: random.Random, structural: bool) -> None:
    """Change bytes of a file, or one place of the JSON that it holds."""
    data = path.read_bytes()
    path.write_bytes(json.dumps(json_mutant(json.loads(data), rng)).encode() if structural else byte_mutant(data, rng))


def of_evidence(rng: random.Random, root: Path) -> str:
    """One file of a store is damaged: it is read as it was or refused, and then measured again.

    ``root``: a folder for it. Returns ``read``, ``refused`` or ``left`` (of a format of the future, which is not
    changed).
    """
    store = Store(root / "store")
    measure(store)
    files = sorted(p for p in store.root.rglob("*") if p.is_file() and ".locks" not in p.parts)
    assert len(files) == 7
    path = rng.choice(files)
    damage_(path, rng, structural=path.suffix == ".json" and rng.random() < 0.5)
    store, outcome = Store(store.root), "read"
    try:
        if held(store.read(KEY)) != TRUE:
            raise Silent(f"{path.name} is believed")
    except StoreError:
        outcome = "refused"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        try:
            measure(store)
        except StoreError:
            return "left"
    if held(store.read(KEY)) != TRUE:
        raise Silent(f"{path.name} is believed after a measurement")
    return outcome


def of_baseline(rng: random.Random, root: Path) -> str:
    """One file of a baseline is damaged: ``read`` as it was, or ``refused`` by name."""
    storage = Baselines(folder=root / "baselines")
    budget = Budget(looks=3, spending="even", alpha=0.05)
    path = storage.save(some_record(), "good", overwrite=False, allow="--force", budget=budget)
    true = storage.load("good")
    storage.take(true, storage.next_look(true, 0.05, 1), true.record.claims, 1)
    damage_(rng.choice([path, path, path.with_name("looks.json")]), rng, structural=rng.random() < 0.5)
    try:
        found = storage.load("good")
        if found.record != true.record:
            raise Silent("another baseline is compared with")
        storage.known_look(found, true.record.claims, 1, 0.05)
    except UsageError as error:
        if "good" not in str(error):
            raise
        return "refused"
    return "read"


def of_record(command: str, rng: random.Random, root: Path) -> int:
    """A run record is damaged and given to a command: its exit code.

    A mutant is refused, or read as it was; whatever the command prints holds no control character.
    """
    storage = root / "baselines"
    Baselines(folder=storage).save(some_record(), "good", overwrite=False, allow="--force")
    path = write_record(some_record(), root / "run.json")
    other = root / "other.json"
    shutil.copy(path, other)
    damage_(path, rng, structural=rng.random() < 0.7)
    arguments = {
        "gate": ["gate", str(path), "--baseline", "good", "--storage", str(storage)],
        "report": ["report", str(path), "-o", str(root / "r.html")],
        "bless": ["bless", str(path), "--as", "next", "--force", "--storage", str(storage)],
        "merge": ["merge", str(other), str(path), "-o", str(root / "merged")],
    }[command]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(arguments)
    for line in out.getvalue().split("\n"):
        if line.startswith("::") or any(fault_of_name(line[k : k + 200]) for k in range(0, len(line), 200)):
            raise Silent(f"{command} prints {line!r}")
    assert code in (0, 1, USAGE), code
    return code


def any_of(rng: random.Random, root: Path) -> str:
    """A mutant of any kind; reports, which are drawn in full, are one in twenty."""
    kind = rng.choices(["evidence", "baseline", *COMMANDS], weights=[8, 4, 3, 1, 2, 2])[0]
    found: Any = {"evidence": of_evidence, "baseline": of_baseline}.get(kind)
    return f"{kind}: {found(rng, root) if found else of_record(kind, rng, root)}"
