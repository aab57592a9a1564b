"""Looking after a store: what is in it, what is wrong with it, what can go."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..errors import StoreError
from ..plain import NOTHING, Json
from .evidence import EvidenceKey
from .files import (
    FILES,
    KEY_FILE,
    LOCKS,
    LOGS,
    DamagedEvidence,
    FutureEvidence,
    LockedEvidence,
    chunk_file,
    hold,
    kind_of,
    names_in,
    store_error,
)
from .format import Layout, items_in, read_layout, read_provenance, verify_chunk, whole_chunks

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One set in the store. ``size`` in bytes, ``last_used`` and ``created`` as ISO 8601 in UTC."""

    folder: Path
    key: EvidenceKey
    items: int
    total: int
    size: int
    created: str
    last_used: str

    @property
    def measure(self) -> str:
        """The key's measure."""
        return self.key.measure

    @property
    def complete(self) -> bool:
        """Whether every item is stored."""
        return self.items == self.total

    def provenance(self) -> Mapping[str, Json]:
        """What the run that wrote the first chunk said of itself: the names ``checkpoint`` and ``on`` among it, which
        are in no key, so that another run may use others for the same content. Nothing where no chunk can be read."""
        with contextlib.suppress(StoreError):
            layout = read_layout(self.folder)
            whole = whole_chunks(layout, names_in(self.folder)) if layout else ()
            return read_provenance(self.folder, whole[0]) if whole else NOTHING
        return NOTHING


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong in the store; only ``damaged``, ``future`` and ``unreadable`` mean that stored work is lost."""

    kind: Literal["damaged", "future", "unreadable", "incomplete", "aside", "temporary", "foreign"]
    path: Path
    message: str


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A set's folder or a single file that was (or, in a dry run, would be) removed; ``size`` in bytes."""

    path: Path
    size: int
    reason: str


def stored_sets(root: Path) -> Iterator[Stored]:
    """Every set whose key.json can be read, by measure and digest. Raises StoreError where the root cannot be read."""
    for folder in _set_folders(root):
        with contextlib.suppress(StoreError):
            if (layout := read_layout(folder)) is not None:
                yield Stored(
                    folder=folder,
                    key=layout.key,
                    items=items_in(layout, whole_chunks(layout, names_in(folder))),
                    total=len(layout.ids),
                    size=_size(folder),
                    created=layout.created,
                    last_used=datetime.fromtimestamp(_last_used(folder), UTC).isoformat(timespec="seconds"),
                )


def problems(root: Path) -> Iterator[Problem]:
    """Every checksum verified, every file accounted for. Takes no lock: a set being written shows as incomplete."""
    known = set(_set_folders(root))
    for name in sorted(names_in(root) - {LOCKS, LOGS, FILES}):
        measure = root / name
        if not measure.is_dir():
            yield Problem(kind="foreign", path=measure, message="not a file of the store; it is left alone")
            continue
        for inner in sorted(names_in(measure)):
            if measure / inner in known:
                yield from _problems_of(measure / inner)
            else:
                yield Problem(kind="foreign", path=measure / inner, message="not a file of the store; it is left alone")


def prune(
    root: Path,
    *,
    older_than_days: float | None,
    incomplete: bool,
    damaged: bool,
    unused_by: Collection[str] | None,
    dry_run: bool,
) -> Iterator[Removed]:
    """Remove evidence, one set after the other as the iterator is consumed; foreign files and sets in use stay.

    ``incomplete`` chooses sets that lack items; ``unused_by`` sets whose digest is not among those given; ``damaged``
    only the files set aside and the temporary files of killed runs, never a chunk. ``older_than_days``, counted from
    the last use, narrows these choices, or alone chooses every set so old. Nothing chosen removes nothing. Sets of a
    future format stay. Raises ValueError for a negative age, StoreError where a file cannot be removed.
    """
    if older_than_days is not None and not older_than_days >= 0:
        raise ValueError(f"older_than_days must be 0 or more, got {older_than_days}")
    by_age_alone = older_than_days is not None and not incomplete and not damaged and unused_by is None

    def choose(folder: Path) -> tuple[Removed, ...]:
        age = (time.time() - _last_used(folder)) / _DAY
        if older_than_days is not None and age < older_than_days:
            return ()
        try:
            lacks = _lacks(folder)
        except StoreError:
            return ()  # of a future format, or not ours to read
        reason = None
        if unused_by is not None and folder.name not in unused_by:
            reason = "not used by what was named"
        elif incomplete and lacks:
            reason = lacks
        elif by_age_alone:
            reason = f"last used {age:.0f} days ago"
        if reason:
            return (Removed(path=folder, size=_size(folder), reason=reason),)
        return _leftovers(folder) if damaged else ()

    for folder in _set_folders(root):
        if dry_run:
            yield from choose(folder)
            continue
        try:
            with hold(root, folder.name, timeout=0):
                chosen = choose(folder)
                for removed in chosen:
                    _remove(removed.path)
        except LockedEvidence:
            continue  # somebody measures it now
        yield from chosen


def _set_folders(root: Path) -> tuple[Path, ...]:
    measures = (root / name for name in sorted(names_in(root) - {LOCKS, LOGS, FILES}) if (root / name).is_dir())
    folders = (m / name for m in measures for name in sorted(names_in(m)) if _DIGEST.fullmatch(name))
    return tuple(folder for folder in folders if folder.is_dir())


def _problems_of(folder: Path) -> Iterator[Problem]:
    names = names_in(folder)
    messages: dict[str, tuple[Literal["aside", "temporary", "foreign"], str]] = {
        "aside": ("aside", "found damaged earlier and set aside; `tuneshift evidence prune --damaged` removes it"),
        "temporary": ("temporary", "left by a killed run, unless a run is writing it now"),
        "foreign": ("foreign", "not a file of the store; it is left alone"),
    }
    for name in sorted(names):
        if kind_of(name) in messages:
            kind, message = messages[kind_of(name)]
            yield Problem(kind=kind, path=folder / name, message=message)
    try:
        layout = read_layout(folder)
    except StoreError as error:
        yield _problem(error, folder / KEY_FILE)
        return
    if layout is None:
        yield Problem(
            kind="incomplete", path=folder, message="no key.json; the next run writes it and keeps the chunks"
        )
        return
    yield from _chunk_problems(folder, layout, names)


def _chunk_problems(folder: Path, layout: Layout, names: frozenset[str]) -> Iterator[Problem]:
    stored = 0
    for number in range(layout.n_chunks):
        if chunk_file(number, "json") not in names:
            continue
        try:
            verify_chunk(folder, layout, number)
            stored += len(layout.chunk_ids(number))
        except FileNotFoundError:
            continue  # set aside by a run since the names were listed
        except StoreError as error:
            yield _problem(error, folder / chunk_file(number, "json"))
    if stored < (total := len(layout.ids)):
        yield Problem(kind="incomplete", path=folder, message=f"{stored} of {total} items are stored and sound")


def _problem(error: StoreError, path: Path) -> Problem:
    if isinstance(error, DamagedEvidence):
        return Problem(kind="damaged", path=error.path, message=error.what)
    return Problem(kind="future" if isinstance(error, FutureEvidence) else "unreadable", path=path, message=str(error))


def _lacks(folder: Path) -> str | None:
    """What makes a set incomplete, None where it is complete."""
    try:
        layout = read_layout(folder)
    except DamagedEvidence:
        layout = None
    if layout is None:
        return "incomplete (no sound key.json)"
    stored, total = items_in(layout, whole_chunks(layout, names_in(folder))), len(layout.ids)
    return f"incomplete ({stored} of {total} items)" if stored < total else None


def _leftovers(folder: Path) -> tuple[Removed, ...]:
    reasons = {"aside": "set aside as damaged", "temporary": "left by a killed run"}
    paths = (folder / name for name in sorted(names_in(folder)) if kind_of(name) in reasons)
    return tuple(Removed(path=p, size=p.stat().st_size, reason=reasons[kind_of(p.name)]) for p in paths)


def _remove(path: Path) -> None:
    """A single file, or a set's own files and, if nothing foreign is in it, its folder."""
    try:
        if not path.is_dir():
            path.unlink()
            return
        ours = [name for name in names_in(path) if kind_of(name) != "foreign"]
        # a chunk's JSON before its arrays, key.json last: a killed prune leaves an incomplete set, no damaged one
        for name in sorted(ours, key=lambda n: (n == KEY_FILE, not n.endswith(".json"), n)):
            (path / name).unlink()
        if not names_in(path):
            path.rmdir()
    except OSError as error:
        raise store_error(error, f"remove {path}") from error


def _size(folder: Path) -> int:
    total = 0
    for name in names_in(folder):
        with contextlib.suppress(FileNotFoundError):
            total += (folder / name).stat().st_size
    return total


def _last_used(folder: Path) -> float:
    """Seconds since the epoch; reading a set touches its key.json."""
    for path in (folder / KEY_FILE, folder):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0.0
