"""Kills, full disks, concurrent writers and damaged files, in numbers: nothing lost, nothing silent, no traceback.

    python tests/campaign.py --results FOLDER [--kills 100] [--mutants 1000] [--full-disks 60] [--together 30]
    python tests/campaign.py --results FOLDER --table

Every try has a seed and appends one line to FOLDER/tries.jsonl, so that a campaign that is stopped goes on where it
was. ``--table`` prints what stands in docs/reliability.md. A try counts as

- lost: evidence, a record or a baseline that was reported as written is not there afterwards;
- silent: something is read that is not what was written, or an exit code 0 says that it was written;
- traceback: an exception that is none of tuneshift's own, which a user would read as a traceback.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from unittest import mock

import mutants
from mutants import IDS, KEY, Silent, held, items

from tuneshift.errors import TuneshiftError
from tuneshift.gate.baselines import FILE, Baselines
from tuneshift.run_record import RunRecord, read_record, write_record
from tuneshift.store.files import EvidenceWarning, MissingEvidence
from tuneshift.store.store import Store

OUTCOMES = ("lost", "silent", "traceback")
CHUNKS = len(IDS) // 2
PART = 0.01
"""Seconds that a part of the work takes, about: a kill comes within them, after some parts."""


class Lost(Exception):
    """Something reported as written is gone."""


def work(root: Path) -> None:
    """What a run writes: evidence chunk by chunk, a record, a baseline. Says each once it is written."""
    print("ready", flush=True)
    with Store(root / "store").session(KEY, IDS, {"device": "cpu"}, chunk_size=2) as session:
        for number, ids in session.missing:
            session.write(number, items(ids))
            print("chunk", number, flush=True)
    write_record(mutants.some_record(), root / "run.json")
    print("record", flush=True)
    Baselines(folder=root / "baselines").save(mutants.some_record(), "good", overwrite=True, allow="--force")
    print("baseline", flush=True)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that does `work`, forked so that a try does not begin with seconds of imports."""

    pid: int
    said: IO[str]

    @classmethod
    def started(cls, root: Path) -> Worker:
        """A worker that is about to write."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.dup2(write, 1)
            sys.stdout = os.fdopen(1, "w")
            try:
                work(root)
                os._exit(0)
            except BaseException:
                print(traceback.format_exc(), flush=True)
                os._exit(1)
        os.close(write)
        worker = cls(pid=pid, said=os.fdopen(read))
        assert worker.said.readline() == "ready\n"
        return worker

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> tuple[list[str], int]:
        """What it said, and how it ended (0, or minus a signal)."""
        with self.said:
            lines = self.said.read().splitlines()
        return lines, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def require_sound(root: Path, said: list[str]) -> None:
    """All that was said to be written is there, and all that is there is what was written."""
    store, folder = Store(root / "store"), Baselines(folder=root / "baselines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        with store.session(KEY, IDS, {"device": "cpu"}, chunk_size=2) as session:
            missing = {number for number, _ in session.missing}
    if gone := {f"chunk {n}" for n in missing} & set(said):
        raise Lost(", ".join(sorted(gone)))
    try:
        if held(store.read(KEY)) != mutants.TRUE:
            raise Silent("other evidence than was written")
    except MissingEvidence:
        if not missing:
            raise Silent("no chunk is missing, and the evidence cannot be read") from None
    records = (
        ("record", root / "run.json", lambda: read_record(root / "run.json"), mutants.some_record),
        ("baseline", folder.folder / "good" / FILE, lambda: folder.load("good").record, true_baseline),
    )
    for name, path, read, true in records:
        if not path.exists():
            if name in said:
                raise Lost(name)
        elif read() != true():
            raise Silent(f"another {name} than was written")


@cache
def true_baseline() -> RunRecord:
    """The record as a baseline keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Baselines(folder=Path(folder))
        storage.save(mutants.some_record(), "good", overwrite=False, allow="--force")
        return storage.load("good").record


def whole_again(root: Path) -> None:
    """The same work again, in this process, which a user's rerun is; then everything is there."""
    with open(os.devnull, "w") as quiet, mock.patch("sys.stdout", quiet):
        work(root)
    require_sound(root, [*(f"chunk {n}" for n in range(CHUNKS)), "record", "baseline"])


def kill(rng: random.Random, root: Path) -> str:
    """SIGKILL at a moment of the work, then the work again."""
    worker = Worker.started(root)
    first = [line for _ in range(rng.randrange(CHUNKS + 2)) if (line := worker.said.readline().strip())]
    time.sleep(rng.random() * PART)
    worker.kill()
    said = [*first, *worker.ended()[0]]
    require_sound(root, said)
    whole_again(root)
    return f"{len(said)} of {CHUNKS + 2} written"


def together(rng: random.Random, root: Path) -> str:
    """Four processes that want the same; one of them is killed in every other try. Nothing is measured twice."""
    workers = [Worker.started(root) for _ in range(4)]
    killed = rng.choice(workers) if rng.random() < 0.5 else None
    if killed is not None:
        time.sleep(rng.random() * 5 * PART)
        killed.kill()
    said: Counter[str] = Counter()
    for worker in workers:
        lines, code = worker.ended()
        said.update(lines)
        if worker is not killed and code != 0:
            raise RuntimeError("\n".join(lines))
    twice = [line for line, count in said.items() if line.startswith("chunk") and count > 1]
    if twice:
        raise Silent(f"measured twice: {', '.join(twice)}")
    require_sound(root, [*said])
    whole_again(root)
    return "one killed" if killed is not None else "all ended"


@contextmanager
def full_after(calls: int) -> Iterator[None]:
    """A disk that is full after so many files, or parts of files, have reached it."""
    left, whole = iter(range(calls)), os.fsync

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor)

    with mock.patch("os.fsync", fsync):
        yield


def full_disk(rng: random.Random, root: Path) -> str:
    """A disk that fills up at a moment of the work, and space again for a rerun."""
    said: list[str] = []
    after = rng.randrange(4 * CHUNKS + 8)
    try:
        with (
            full_after(after),
            mock.patch("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words)))),
        ):
            work(root)
    except (TuneshiftError, OSError) as error:
        # The command line turns an OSError of a record into its own words (tests/plugin/test_option_out.py).
        if "full" not in str(error) and "No space" not in str(error):
            raise
        require_sound(root, said)
    else:
        require_sound(root, said)
        if len(said) < CHUNKS + 3:
            raise Silent("the disk was full and nothing said so")
    whole_again(root)
    return f"full after {after} of {4 * CHUNKS + 8}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of tries: what stands in the table, and one try."""

    name: str
    take: Callable[[random.Random, Path], str]


KINDS = {
    "kills": Kind(name="kills while evidence, record or baseline is written", take=kill),
    "together": Kind(name="four processes on one store, one killed in half", take=together),
    "full-disks": Kind(name="disks that fill up while something is written", take=full_disk),
    "mutants": Kind(name="damaged files read (evidence, baselines, records by command)", take=mutants.any_of),
}


def attempt(kind: Kind, seed: int) -> dict[str, object]:
    """One try in a folder of its own: its outcome (``sound`` or what went wrong) and what it says of itself."""
    root = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        said = kind.take(random.Random(seed), root)
        outcome = "sound"
    except Lost as error:
        outcome, said = "lost", str(error)
    except Silent as error:
        outcome, said = "silent", str(error)
    except Exception:
        outcome, said = "traceback", traceback.format_exc()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return {"seed": seed, "outcome": outcome, "said": said}


def table(tries: list[dict[str, str]]) -> str:
    rows = ["| what is done | tries | lost | silent | tracebacks |", "| --- | --- | --- | --- | --- |"]
    for key, kind in KINDS.items():
        found = Counter(row["outcome"] for row in tries if row["kind"] == key)
        rows.append(f"| {kind.name} | {found.total():,} | " + " | ".join(str(found[o]) for o in OUTCOMES) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("campaign"), metavar="FOLDER")
    parser.add_argument("--table", action="store_true", help="print the table of what has been tried")
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--together", type=int, default=30, metavar="N")
    parser.add_argument("--full-disks", type=int, default=60, metavar="N")
    parser.add_argument("--mutants", type=int, default=1000, metavar="N")
    chosen = parser.parse_args()
    chosen.results.mkdir(parents=True, exist_ok=True)
    path = chosen.results / "tries.jsonl"
    tries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not chosen.table:
        done = {(row["kind"], row["seed"]) for row in tries}
        for key, kind in KINDS.items():
            for seed in range(getattr(chosen, key.replace("-", "_"))):
                if (key, seed) in done:
                    continue
                tries.append({"kind": key, **attempt(kind, seed)})
                with path.open("a") as file:
                    file.write(json.dumps(tries[-1]) + "\n")
                if tries[-1]["outcome"] != "sound":
                    print(json.dumps(tries[-1]), flush=True)
    print(table(tries))
    return int(any(row["outcome"] != "sound" for row in tries))


if __name__ == "__main__":
    sys.exit(main())
