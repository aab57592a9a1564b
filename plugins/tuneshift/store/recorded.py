"""Recorded evidence: what stands for a checkpoint whose weights are not here.

Of a pair's evidence file, every measure; of a parquet table, which is how others published theirs, importance levels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.refs import ModelRef
from ..errors import PairError, PromptError, UsageError
from ..prompts.prompt import Prompt, PromptSet
from ..prompts.sentencepiece import piece_text, pieces_text, sentencepiece_offsets
from .evidence import EvidenceItem, EvidenceKey
from .recorded_pair import RecordedPair, recorded_pair

COLUMNS = ("id", "input_tokens", "output_tokens", "levels")
HIGHEST_LEVEL = 10
"""Levels are ceil(10 * importance / maximum): arXiv:2310.00492, section 3.1, L = 10."""

LEVELS = "attribution"
"""The one need that a table of levels serves."""


@dataclass(frozen=True, kw_only=True)
class RecordedCheckpoint:
    """One checkpoint's part of an evidence file."""

    pair: RecordedPair
    role: str

    @property
    def fingerprint(self) -> str:
        """Of the weights that the evidence was measured on."""
        return str(self.pair.checkpoints[self.role]["fingerprint"])

    def holds(self, need: str, prompts: PromptSet | None) -> bool:
        """Whether a need can be read from it."""
        return self.pair.key(self.role, need, prompts) is not None

    def name(self, need: str, prompts: PromptSet | None) -> str | None:
        """The digest of the key that it was stored under where it was measured; None where it is not there."""
        key = self.pair.key(self.role, need, prompts)
        return None if key is None else key.digest

    def items(self, need: str, prompts: PromptSet | None) -> Mapping[str, EvidenceItem] | None:
        """Items by id; None where it is not there."""
        return self.pair.items(self.role, need, prompts)


@dataclass(frozen=True, kw_only=True)
class RecordedLevels:
    """A parquet table of importance levels, as `read_recorded` reads it."""

    path: Path

    @property
    def fingerprint(self) -> str:
        """Of the file."""
        return recorded_fingerprint(self.path)

    def holds(self, need: str, prompts: PromptSet | None) -> bool:
        """Whether a need can be read from it."""
        return need == LEVELS and prompts is not None

    def key(self, prompts: PromptSet) -> EvidenceKey:
        """The key of its levels, as an evidence file has them: of no checkpoint, whose weights nobody has hashed."""
        return EvidenceKey(
            measure=LEVELS, version=0, params={"recorded": "levels"}, checkpoint=self.fingerprint, dtype="uint8",
            prompts=prompts.sha256,
        )  # fmt: skip

    def name(self, need: str, prompts: PromptSet | None) -> str | None:
        """The digest of that key; None for anything but levels."""
        return self.key(prompts).digest if prompts is not None and self.holds(need, prompts) else None

    def items(self, need: str, prompts: PromptSet | None) -> Mapping[str, EvidenceItem] | None:
        """Items by id; None for anything but levels."""
        if prompts is None or not self.holds(need, prompts):
            return None
        return {item.id: item for item in read_recorded(self.path, prompts)}


def recorded(ref: ModelRef) -> RecordedCheckpoint | RecordedLevels:
    """The evidence that stands for a checkpoint. Raises EvidenceFileError; ValueError for one that has weights."""
    if ref.evidence is None:
        raise ValueError(f"{ref.name} has weights; recorded evidence is read for checkpoints without")
    if ref.role is None:
        return RecordedLevels(path=ref.evidence)
    return RecordedCheckpoint(pair=recorded_pair(ref.evidence), role=ref.role)


def read_recorded(path: Path, prompts: PromptSet) -> tuple[EvidenceItem, ...]:
    """Recorded importance levels of every prompt of a set, in the set's order.

    ``path``: a parquet file, or a folder with one. A row has ``id``; ``input_tokens``, N SentencePiece pieces of the
    prompt; ``output_tokens``, the M pieces of the response; ``levels``, N * M bytes in row-major order, 0 to 10.
    Each item: arrays ``levels`` uint8 [token, response token] and ``offsets`` int32 [token, 2] in characters of the
    prompt; values ``tokens`` and ``response_tokens`` for display, ``response`` (text). A prompt without a row is left
    out with the reason; rows without a prompt are passed over.
    Raises PairError, naming file and id, for evidence that is malformed or belongs to other prompts, and UsageError
    where pyarrow is missing.
    """
    file = recorded_file(path)
    rows = _rows(file)
    items = tuple(_item(rows.get(prompt.id), prompt, file) for prompt in prompts.prompts)
    if all(item.left_out is not None for item in items):
        raise PairError(
            f"{file}: none of its {len(rows)} rows is a prompt of {prompts.source}; name the prompt set that the "
            "evidence was recorded on."
        )
    return items


def recorded_fingerprint(path: Path) -> str:
    """SHA-256 of the recorded file, as 64 hexadecimal digits: what stands for weights in the evidence's key."""
    with recorded_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_file(path: Path) -> Path:
    """The parquet file that ``path`` names: itself, or the only one in a folder; else PairError."""
    if os.path.isfile(path):  # unlike Path.is_file, False for a name too long for the file system
        return path
    if not os.path.isdir(path):
        raise PairError(f"recorded evidence {path} does not exist.")
    found = sorted(path.glob("*.parquet"))
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "none"
        raise PairError(f"recorded evidence {path} is a folder with {len(found)} parquet files ({listed}); name one.")
    return found[0]


def _rows(file: Path) -> dict[str, Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(
            f"recorded evidence {file} is parquet, which needs pyarrow: pip install 'tuneshift[parquet]'."
        ) from error
    try:
        with ParquetFile(file) as opened:
            missing = [name for name in COLUMNS if name not in opened.schema_arrow.names]
            if missing:
                raise PairError(
                    f"{file}: column {missing[0]!r} is missing; it has {', '.join(opened.schema_arrow.names)}, "
                    f"recorded evidence has {', '.join(COLUMNS)}."
                )
            rows = opened.read(columns=list(COLUMNS)).to_pylist()
    except (ArrowException, OSError) as error:
        raise PairError(f"{file} cannot be read as parquet: {error}.") from error
    named: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows):
        name = row["id"]
        if not isinstance(name, str):
            raise PairError(f"{file}: row {number}: 'id' is a string, got {name!r}.")
        if name in named:
            raise PairError(f"{file}: id {name!r} has more than one row.")
        named[name] = row
    return named


def _item(row: Mapping[str, Any] | None, prompt: Prompt, file: Path) -> EvidenceItem:
    if row is None:
        return EvidenceItem(id=prompt.id, left_out=f"no row in {file.name}")
    where = f"{file}: id {prompt.id!r}"
    pieces, response = (_pieces(row[name], name, where) for name in ("input_tokens", "output_tokens"))
    if not isinstance(row["levels"], bytes):
        raise PairError(f"{where}: 'levels' is bytes, got {type(row['levels']).__name__}.")
    levels = np.frombuffer(row["levels"], dtype=np.uint8)
    shape = (len(pieces), len(response))
    if levels.size != shape[0] * shape[1]:
        raise PairError(
            f"{where}: {levels.size} levels for {shape[0]} prompt tokens and {shape[1]} response tokens; "
            f"{shape[0] * shape[1]} are wanted, one byte each."
        )
    if levels.size and levels.max() > HIGHEST_LEVEL:
        raise PairError(f"{where}: level {levels.max()} is out of range; levels go from 0 to {HIGHEST_LEVEL}.")
    try:
        offsets = sentencepiece_offsets(pieces, prompt.prompt)
    except PromptError as error:
        raise PairError(f"{where}: recorded on another prompt text: {error}") from error
    return EvidenceItem(
        id=prompt.id,
        arrays={"levels": levels.reshape(shape), "offsets": offsets.astype(np.int32)},
        values={
            "tokens": [piece_text(piece) for piece in pieces],
            "response_tokens": [piece_text(piece) for piece in response],
            "response": pieces_text(response),
        },
    )


def _pieces(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(piece, str) for piece in value):
        raise PairError(f"{where}: {name!r} is a list of strings, got {value!r:.80}.")
    return value
