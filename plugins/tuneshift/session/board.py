"""What xdist's workers tell the controller while they work: files in a folder that both see, one kind a worker.

xdist carries reports of tests that ended; how far a measure is, and which claim a worker was at when it was killed, it
does not. Where the folder is not there (a worker on another machine), nothing is told, and nothing fails.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import publish
from ..parse import MalformedError, parse_json
from ..plain import Json
from .fields import BOARD

LOOKED = 2.0
"""Seconds between two looks of the controller; xdist's own loop wakes as often."""


@dataclass(frozen=True, kw_only=True)
class WorkerBoard:
    """A worker's side."""

    folder: Path | None
    worker: str

    @classmethod
    def of(cls, workerinput: Mapping[str, Any]) -> WorkerBoard:
        """Of what xdist gives a worker."""
        folder = workerinput.get(BOARD)
        return cls(folder=None if folder is None else Path(folder), worker=str(workerinput.get("workerid", "worker")))

    def say(self, line: str) -> None:
        """A line for the controller's terminal."""
        if self.folder is not None:
            with contextlib.suppress(OSError), (self.folder / f"{self.worker}.log").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    def begin(self, test: str, place: Mapping[str, Json]) -> None:
        """Which test begins, and where the claim stands that it makes."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                publish(self.folder / f"{self.worker}.json", json.dumps({"test": test, "place": dict(place)}).encode())


@dataclass(kw_only=True)
class Board:
    """The controller's side, from its making until `close`."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tuneshift-workers-")))
    _read: dict[Path, int] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def lines(self) -> list[str]:
        """Whole lines that workers have said since the last look, each with its worker."""
        found = []
        for path in sorted(self.folder.glob("*.log")):
            with contextlib.suppress(OSError):
                said = path.read_bytes()[self._read.get(path, 0) :].rpartition(b"\n")[0]
                if said:
                    self._read[path] = self._read.get(path, 0) + len(said) + 1
                    found += [f"[{path.stem}] {line}" for line in said.decode(errors="replace").split("\n")]
        return found

    def place_of(self, test: str) -> dict[str, Json] | None:
        """Where the claim stands that a worker was at in a test; None where none was in it last."""
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError, MalformedError):
                held = parse_json(path.read_bytes())
                if held["test"] == test:
                    return dict(held["place"])
        return None

    def follow(self, say: Callable[[str], None], every: float = LOOKED) -> None:
        """Pass on what workers say until `close`, from a thread of its own."""

        def look() -> None:
            while not self._over.wait(every):
                for line in self.lines():
                    say(line)

        self._thread = threading.Thread(target=look, name="tuneshift workers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End and remove the folder."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)
