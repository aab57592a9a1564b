"""The evidence format: how a set's key and chunks become JSON and safetensors, and how they are verified when read.

Written down in ``docs/evidence-format.md``; a change there or here raises ``FORMAT``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from ..errors import StoreError
from ..files import publish
from ..parse import MalformedError, parse_json
from ..plain import NOTHING, Json
from .evidence import EvidenceItem, EvidenceKey
from .files import KEY_FILE, DamagedEvidence, FutureEvidence, chunk_file, contents, kind_of, names_in, now

FORMAT = 1
"""Version of the folder format; raised when older code can no longer read what newer code writes."""

_INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a set is cut into chunks: fixed by the order of ``ids`` and ``chunk_size`` when the set is created."""

    key: EvidenceKey
    ids: tuple[str, ...]
    chunk_size: int
    created: str

    @property
    def n_chunks(self) -> int:
        """Number of chunks; the last one may be short."""
        return -(-len(self.ids) // self.chunk_size)

    def chunk_ids(self, number: int) -> tuple[str, ...]:
        """Ids of one chunk, in order."""
        return self.ids[number * self.chunk_size : (number + 1) * self.chunk_size]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One stored chunk as read: items, provenance, the time it was written."""

    number: int
    items: tuple[EvidenceItem, ...]
    written: str
    provenance: Mapping[str, Json] = field(default_factory=lambda: NOTHING)


def whole_chunks(layout: Layout, names: frozenset[str]) -> tuple[int, ...]:
    """Numbers of the chunks of which both files are there, by name alone (no checksums)."""
    return tuple(
        n for n in range(layout.n_chunks) if chunk_file(n, "json") in names and chunk_file(n, "safetensors") in names
    )


def items_in(layout: Layout, chunks: Sequence[int]) -> int:
    """Number of items in the given chunks."""
    return sum(len(layout.chunk_ids(number)) for number in chunks)


def write_layout(folder: Path, layout: Layout) -> None:
    """Publish key.json. Raises OSError."""
    key = layout.key
    document = {
        "format": FORMAT,
        "digest": key.digest,
        "measure": key.measure,
        "version": key.version,
        "params": dict(key.params),
        "checkpoint": key.checkpoint,
        "dtype": key.dtype,
        "prompts": key.prompts,
        "created": layout.created,
        "chunk_size": layout.chunk_size,
        "ids": list(layout.ids),
    }
    publish(folder / KEY_FILE, _sealed(document, indent=1))


def write_chunk(
    folder: Path,
    layout: Layout,
    number: int,
    items: Sequence[EvidenceItem],
    provenance: Mapping[str, Json],
    *,
    written: str | None = None,
) -> None:
    """Publish one chunk, arrays first and JSON last, so that the JSON's presence means a whole chunk.

    ``written``: when, for evidence that was measured elsewhere; None for now.

    Raises StoreError for values that JSON or arrays that safetensors cannot hold, OSError where the disk refuses.
    """
    arrays = {
        f"{number * layout.chunk_size + i}/{name}": _in_rows(array, f"item {item.id!r}, array {name!r}")
        for i, item in enumerate(items)
        for name, array in item.arrays.items()
    }
    for item in items:
        check_json(item.values, f"item {item.id!r}, values")
    blob = safetensors.numpy.save(arrays)
    document = {
        "format": FORMAT,
        "key": layout.key.digest,
        "chunk": number,
        "chunk_size": layout.chunk_size,
        "written": now() if written is None else written,
        "provenance": dict(provenance),
        "arrays_sha256": hashlib.sha256(blob).hexdigest(),
        "items": [_item_document(item) for item in items],
    }
    sealed = _sealed(document)
    publish(folder / chunk_file(number, "safetensors"), blob)
    try:
        publish(folder / chunk_file(number, "json"), sealed)
    except BaseException:
        with contextlib.suppress(OSError):  # arrays without their JSON are of no use and take what little room is left
            (folder / chunk_file(number, "safetensors")).unlink()
        raise


def _item_document(item: EvidenceItem) -> dict[str, Json]:
    arrays = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in item.arrays.items()}
    return {"id": item.id, "left_out": item.left_out, "values": dict(item.values), "arrays": arrays}


def _in_rows(array: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """The array in row order: safetensors writes the buffer as it lies, strides ignored (byte order it sees to)."""
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.name not in _DTYPES:
        got = array.dtype.name if isinstance(array, np.ndarray | np.generic) else type(array).__name__
        raise StoreError(f"{where}: {got} cannot be stored; a numpy array of one of {', '.join(_DTYPES)} can")
    return np.asarray(array, order="C")


def check_json(value: Json, where: str) -> None:
    """Raise StoreError, naming the place, unless ``value`` comes back from JSON as it went in (tuples become lists)."""
    if isinstance(value, float) and not math.isfinite(value):
        raise StoreError(f"{where}: {value} has no form in JSON; use None, an array, or leave the item out")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise StoreError(f"{where}: the name {name!r} is a {type(name).__name__}; only str can be stored")
            check_json(inner, f"{where}[{name!r}]")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_json(inner, f"{where}[{i}]")
    elif not (value is None or isinstance(value, str | int | float)):
        raise StoreError(
            f"{where}: {type(value).__name__} cannot be stored; None, bool, int, float, str, list and dict can"
        )


def _sealed(document: Mapping[str, Json], indent: int | None = None) -> bytes:
    return (json.dumps({**document, "sha256": _seal(document)}, indent=indent, default=dict) + "\n").encode()


def _seal(document: Mapping[str, Json]) -> str:
    """SHA-256 of the document without its ``sha256``, sorted keys, no white space, ASCII (lone surrogates survive)."""
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), default=dict).encode()).hexdigest()


def _document(path: Path) -> dict[str, Any]:
    """A sealed JSON file. FileNotFoundError, FutureEvidence, DamagedEvidence, or StoreError where it cannot be read."""
    try:
        found = parse_json(contents(path), constant=float)
    except MalformedError as error:
        raise DamagedEvidence(path, str(error)) from error
    if not isinstance(found, dict):
        raise DamagedEvidence(path, "not a JSON object")
    if isinstance(version := found.get("format"), int) and version > FORMAT:
        raise FutureEvidence(
            f"{path} has evidence format {version}; this tuneshift reads formats up to {FORMAT}. "
            "Upgrade tuneshift, or name another store with --shift-store"
        )
    if found.get("sha256") != _seal(found):
        raise DamagedEvidence(path, "its checksum does not fit its content")
    return found


def read_layout(folder: Path) -> Layout | None:
    """The layout in key.json; None where there is none. Raises DamagedEvidence, FutureEvidence, StoreError."""
    path = folder / KEY_FILE
    try:
        found = _document(path)
    except FileNotFoundError:
        return None
    try:
        names = ("measure", "version", "params", "checkpoint", "dtype", "prompts")
        key = EvidenceKey(**{name: found[name] for name in names})
        layout = Layout(
            key=key, ids=tuple(found["ids"]), chunk_size=int(found["chunk_size"]), created=str(found["created"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedEvidence(path, f"a field is missing or of the wrong type ({error!r})") from error
    if key.digest != folder.name or key.measure != folder.parent.name or layout.chunk_size < 1:
        raise DamagedEvidence(path, f"its key belongs in {key.measure}/{key.digest}")
    return layout


def stored_chunk_size(folder: Path) -> int | None:
    """Chunk size that the chunks themselves name, for a folder whose key.json was lost; None where none can be read."""
    for name in sorted(n for n in names_in(folder) if kind_of(n) == "chunk" and n.endswith(".json")):
        with contextlib.suppress(DamagedEvidence, FileNotFoundError):
            if isinstance(size := _document(folder / name).get("chunk_size"), int) and size > 0:
                return size
    return None


def read_chunk(folder: Path, layout: Layout, number: int) -> Chunk:
    """One chunk, every checksum verified. Raises FileNotFoundError, DamagedEvidence, FutureEvidence, StoreError."""
    path = folder / chunk_file(number, "safetensors")
    document, blob = _checked(folder, layout, number)
    try:
        tensors: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for label, array in safetensors.numpy.load(blob).items():
            index, _, name = label.partition("/")
            tensors.setdefault(index, {})[name] = array
        items = tuple(
            EvidenceItem(
                id=entry["id"],
                arrays={name: tensors[str(number * layout.chunk_size + i)][name] for name in entry["arrays"]},
                values=entry["values"],
                left_out=entry["left_out"],
            )
            for i, entry in enumerate(document["items"])
        )
        return Chunk(number=number, items=items, written=document["written"], provenance=document["provenance"])
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise DamagedEvidence(path, f"its arrays are not those that the chunk's JSON names ({error!r})") from error


def read_provenance(folder: Path, number: int) -> Mapping[str, Json]:
    """What a chunk's JSON says of how it was measured, its arrays unread; nothing where it cannot be read."""
    try:
        found = _document(folder / chunk_file(number, "json")).get("provenance")
    except (StoreError, FileNotFoundError):
        return NOTHING
    return found if isinstance(found, dict) else NOTHING


def verify_chunk(folder: Path, layout: Layout, number: int) -> None:
    """Verify one chunk's checksums without building its arrays; raises as ``read_chunk``."""
    _checked(folder, layout, number)


def _checked(folder: Path, layout: Layout, number: int) -> tuple[dict[str, Any], bytes]:
    path = folder / chunk_file(number, "json")
    document = _document(path)
    if document.get("key") != layout.key.digest or document.get("chunk") != number:
        raise DamagedEvidence(path, "it belongs to another set or another place in this one")
    ids = tuple(entry.get("id") for entry in document.get("items", ()))
    if document.get("chunk_size") != layout.chunk_size or ids != layout.chunk_ids(number):
        raise DamagedEvidence(path, "its items are not those that key.json puts into this chunk")
    arrays = path.with_suffix(".safetensors")
    try:
        blob = contents(arrays)
    except FileNotFoundError as error:
        raise DamagedEvidence(path, f"its arrays are gone ({arrays.name} is not there)") from error
    if hashlib.sha256(blob).hexdigest() != document.get("arrays_sha256"):
        raise DamagedEvidence(arrays, f"its checksum is not the one in {path.name}")
    return document, blob
