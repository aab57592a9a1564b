"""Writing one key's evidence: what is missing, publishing chunk by chunk, setting damaged chunks aside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ..errors import StoreError
from ..plain import NOTHING, Json
from .evidence import EvidenceItem, EvidenceKey
from .files import DamagedEvidence, EvidenceWarning, chunk_file, kind_of, names_in, now, set_aside, store_error
from .format import Layout, check_json, read_layout, stored_chunk_size, verify_chunk, write_chunk, write_layout

OWN_FIELDS = frozenset({"chunks", "chunk", "items", "written"})
"""Provenance fields that ``Store.read`` fills in."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How many of a key's items the store holds in whole chunks."""

    stored: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left to measure."""
        return self.stored == self.total


class Session:
    """The right to write one key's evidence, held with the key's lock; made by ``Store.session``."""

    def __init__(self, folder: Path, layout: Layout, provenance: Mapping[str, Json]) -> None:
        self.layout = layout
        self._folder = folder
        self._provenance = provenance
        self._open = True
        self._missing = {n: layout.chunk_ids(n) for n in range(layout.n_chunks) if not self._is_whole(n)}

    @property
    def missing(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Chunks still to be measured, each as (chunk number, ids in order)."""
        return tuple(self._missing.items())

    @property
    def progress(self) -> Progress:
        """Items stored so far, those of earlier runs included."""
        total = len(self.layout.ids)
        return Progress(stored=total - sum(map(len, self._missing.values())), total=total)

    def write(self, chunk_number: int, items: Sequence[EvidenceItem], provenance: Mapping[str, Json] = NOTHING) -> None:
        """Publish one missing chunk, whole or not at all; ``provenance`` adds to the session's (seconds taken ...).

        Raises ValueError for a chunk that is not missing, other ids than the chunk's or a closed session; StoreError
        for contents that cannot be stored and where the disk refuses (full, read-only); what was written before stays.
        """
        if not self._open:
            raise ValueError("this store session has ended, and with it the key's lock; open another one to write")
        if chunk_number not in self._missing:
            raise ValueError(f"chunk {chunk_number} is not missing; missing are {list(self._missing)}")
        expected, got = self._missing[chunk_number], tuple(item.id for item in items)
        if got != expected:
            raise ValueError(f"chunk {chunk_number} holds the items {list(expected)} in this order, got {list(got)}")
        check_provenance(provenance)
        try:
            write_chunk(self._folder, self.layout, chunk_number, items, {**self._provenance, **provenance})
        except OSError as error:
            kept = f"; {self.progress.stored} of {self.progress.total} items are stored and kept, a rerun resumes there"
            doing = f"write chunk {chunk_number} ({len(items)} items) into {self._folder}"
            raise store_error(error, doing, kept) from error
        del self._missing[chunk_number]

    def close(self) -> None:
        """End the session; writing is an error from here on."""
        self._open = False

    def _is_whole(self, number: int) -> bool:
        """Whether a chunk is stored with the right checksums; a bad one is set aside with a warning."""
        present = names_in(self._folder)
        if chunk_file(number, "json") not in present:
            return False  # arrays alone are what a killed run left; the next write replaces them
        try:
            verify_chunk(self._folder, self.layout, number)
        except DamagedEvidence as error:
            _set_aside_and_warn(error, f"its {len(self.layout.chunk_ids(number))} items are measured again")
            return False
        return True


def layout_for(key: EvidenceKey, ids: tuple[str, ...], folder: Path, chunk_size: int) -> Layout:
    """The stored layout, or a new one on disk; the caller holds the lock. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names_in(folder):
        if kind_of(name) == "temporary":  # nobody else writes here now: a killed run left it
            (folder / name).unlink()
    try:
        layout = read_layout(folder)
    except DamagedEvidence as error:
        _set_aside_and_warn(error, "it is written anew and the chunks are kept")
        layout = None
    if layout is None:
        layout = Layout(key=key, ids=ids, chunk_size=stored_chunk_size(folder) or chunk_size, created=now())
        write_layout(folder, layout)
    check_same_ids(layout, ids, folder)
    return layout


def _set_aside_and_warn(error: DamagedEvidence, then: str) -> None:
    try:
        aside = set_aside(error.path)
    except OSError as refused:
        raise store_error(refused, f"set the damaged {error.path} aside") from refused
    warnings.warn(f"{error}; set aside as {', '.join(p.name for p in aside)}, {then}", EvidenceWarning, stacklevel=2)


def checked_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids as a tuple; ValueError for none or repeated ones."""
    if not ids or len(set(ids)) != len(ids):
        got = f"{len(ids)} ids, {len(set(ids))} different"
        raise ValueError(f"evidence needs at least one item and each id once, got {got}")
    return tuple(ids)


def check_provenance(provenance: Mapping[str, Json]) -> None:
    """Raise ValueError for field names that are the store's own, StoreError for values that JSON cannot hold."""
    if taken := sorted(OWN_FIELDS & set(provenance)):
        raise ValueError(f"the provenance fields {taken} are the store's own; give them other names")
    check_json(provenance, "provenance")


def check_same_ids(layout: Layout, ids: tuple[str, ...], folder: Path) -> None:
    """Raise StoreError, naming the first difference, where a set holds other items than those asked for."""
    if layout.ids == ids:
        return
    pairs = list(zip_longest(layout.ids, ids))
    at = next(i for i, (stored, asked) in enumerate(pairs) if stored != asked)
    raise StoreError(
        f"{folder} holds {len(layout.ids)} items and {len(ids)} were asked for; they first differ at item {at}: "
        f"{pairs[at][0]!r} stored, {pairs[at][1]!r} asked. The key decides the items, so this cannot normally happen: "
        f"the measure {layout.key.measure!r} chooses its items by something that its key leaves out; put that into "
        "its params"
    )
