"""Evidence on disk: one folder per key, whole chunks only, one writer per key. No torch.

A key's evidence is written chunk by chunk under the key's lock, so that a killed run keeps every finished chunk and two
processes that want the same evidence measure it once. Readers take no lock and write nothing that they need.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import StoreError
from ..plain import Json
from . import upkeep as store_upkeep
from .evidence import Evidence, EvidenceKey
from .files import KEY_FILE, DamagedEvidence, FutureEvidence, MissingEvidence, hold, names_in, set_aside, store_error
from .format import Chunk, items_in, read_chunk, read_layout, whole_chunks
from .session import Progress, Session, check_provenance, check_same_ids, checked_ids, layout_for
from .upkeep import Problem, Removed, Stored

_MEASURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Store:
    """Evidence under a root folder, created at the first write; ``docs/evidence-format.md`` describes the files."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def status(self, key: EvidenceKey, ids: Sequence[str]) -> Progress:
        """Items in whole chunks, by file names alone (no checksums of chunks).

        Raises ValueError for empty or repeated ids; StoreError where the folder cannot be read, holds other ids, or is
        of a future format.
        """
        wanted, folder = checked_ids(ids), self._folder(key)
        try:
            layout = read_layout(folder)
        except DamagedEvidence:
            layout = None  # the next session sets it aside and finds what the chunks still hold
        if layout is None:
            return Progress(stored=0, total=len(wanted))
        check_same_ids(layout, wanted, folder)
        return Progress(stored=items_in(layout, whole_chunks(layout, names_in(folder))), total=len(wanted))

    def read(self, key: EvidenceKey) -> Evidence:
        """A complete set, every checksum verified, items in the order of their ids. Works on a read-only store.

        Provenance: fields on which all chunks agree, and ``chunks``, a list of {chunk, items, written, and the fields
        that differ}. Raises MissingEvidence when incomplete; DamagedEvidence naming the file, after setting its chunk
        aside so that the next session measures that chunk again; FutureEvidence; StoreError.
        """
        folder = self._folder(key)
        try:
            return _read(key, folder)
        except DamagedEvidence as error:
            return self._read_again(key, folder, error)

    def _read_again(self, key: EvidenceKey, folder: Path, damaged: DamagedEvidence) -> Evidence:
        """Look once more under the lock, since a writer may just have replaced the file; else set it aside."""
        try:
            with hold(self.root, key.digest, timeout=0):
                try:
                    return _read(key, folder)
                except DamagedEvidence as error:
                    damaged = error
                aside = set_aside(damaged.path)
        except (DamagedEvidence, FutureEvidence, MissingEvidence):
            raise
        except (StoreError, OSError) as error:
            what = f"{damaged.what}; it could not be set aside ({error})"
            raise DamagedEvidence(damaged.path, what) from damaged
        names = " and ".join(p.name for p in aside)
        what = f"{damaged.what}; set aside as {names}. A run measures what is missing, and only that"
        raise DamagedEvidence(damaged.path, what) from damaged

    @contextlib.contextmanager
    def session(
        self,
        key: EvidenceKey,
        ids: Sequence[str],
        provenance: Mapping[str, Json],
        *,
        chunk_size: int,
        timeout: float | None = None,
    ) -> Iterator[Session]:
        """Hold the key's lock and write what is missing.

        Waits up to ``timeout`` seconds (None: without end) for another process that measures the same, then finds its
        work done. Verifies every stored chunk; bad ones are set aside with an EvidenceWarning and are missing.
        ``chunk_size`` in items counts for a new set only, a stored one keeps its own. Raises ValueError for bad
        arguments; LockedEvidence when the time is up; StoreError as ``status`` and where the disk refuses.
        """
        wanted, folder = checked_ids(ids), self._folder(key)
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 item, got {chunk_size}")
        check_provenance(provenance)
        with hold(self.root, key.digest, timeout):
            try:
                layout = layout_for(key, wanted, folder, chunk_size)
            except OSError as error:
                raise store_error(error, f"create the evidence folder {folder}") from error
            session = Session(folder, layout, provenance)
            try:
                yield session
            finally:
                session.close()

    def list(self) -> Iterator[Stored]:
        """Every readable set, by measure and digest; unreadable ones are ``verify``'s to report."""
        return store_upkeep.stored_sets(self.root)

    def verify(self) -> Iterator[Problem]:
        """Everything that is wrong, checksums included; changes nothing."""
        return store_upkeep.problems(self.root)

    def prune(
        self,
        *,
        older_than_days: float | None = None,
        incomplete: bool = False,
        damaged: bool = False,
        unused_by: Collection[str] | None = None,
        dry_run: bool = False,
    ) -> Iterator[Removed]:
        """Remove evidence, as the returned iterator is consumed; see ``store_upkeep.prune``."""
        return store_upkeep.prune(
            self.root,
            older_than_days=older_than_days,
            incomplete=incomplete,
            damaged=damaged,
            unused_by=unused_by,
            dry_run=dry_run,
        )

    def _folder(self, key: EvidenceKey) -> Path:
        if not _MEASURE.fullmatch(key.measure):
            raise ValueError(f"measure {key.measure!r} cannot name a folder; use letters, digits, '_', '-' and '.'")
        return self.root / key.measure / key.digest


def _read(key: EvidenceKey, folder: Path) -> Evidence:
    layout = read_layout(folder)
    if layout is None:
        raise MissingEvidence(f"the store has no {key.measure} evidence {key.digest[:12]} ({folder} is not there)")
    whole = whole_chunks(layout, names_in(folder))
    try:
        if len(whole) < layout.n_chunks:
            raise FileNotFoundError
        chunks = [read_chunk(folder, layout, number) for number in whole]
    except FileNotFoundError as error:
        raise MissingEvidence(
            f"the {key.measure} evidence {key.digest[:12]} is incomplete: {items_in(layout, whole)} of "
            f"{len(layout.ids)} items are stored in {folder}. Run again: only the rest is measured"
        ) from error
    with contextlib.suppress(OSError):  # when last used; a store that cannot be written to does without
        os.utime(folder / KEY_FILE)
    items = tuple(item for chunk in chunks for item in chunk.items)
    return Evidence(key=key, items=items, provenance=_merged(chunks))


def _merged(chunks: Sequence[Chunk]) -> Mapping[str, Json]:
    first = chunks[0].provenance
    absent = object()  # unlike None, which is a value
    agreed = {n: v for n, v in first.items() if all(chunk.provenance.get(n, absent) == v for chunk in chunks)}
    rows = [
        {
            "chunk": chunk.number,
            "items": len(chunk.items),
            "written": chunk.written,
            **{n: v for n, v in chunk.provenance.items() if n not in agreed},
        }
        for chunk in chunks
    ]
    return {**agreed, "chunks": rows}
