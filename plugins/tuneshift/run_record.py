"""The run record: run.json, read, written and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import RecordError
from .files import publish
from .parse import MalformedError, parse_json
from .plain import Json, plain, seal
from .record_fields import check_fields


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All verdicts of a run as plain JSON types; ``docs/run-record.md`` describes the fields."""

    schema: int
    run: Mapping[str, Json]
    pairs: Sequence[Mapping[str, Json]]
    claims: Sequence[Mapping[str, Json]]
    examples: Sequence[Mapping[str, Json]] = ()
    errors: Sequence[Mapping[str, Json]] = ()
    """Claims that could not be made: ``finding``, ``pair``, ``prompts``, ``group`` and ``message``."""
    sealed: bool = True
    """Whether the file that it was read from had a checksum, which fitted."""


FIELDS = ("schema", "run", "pairs", "claims", "errors", "examples")
SCHEMA = 1
"""Goes up when a field changes its meaning or goes away; new fields do not raise it."""
PREFIX = "tuneshift."
"""Of the names that a claim has in ``--junitxml``."""

PLACE = ("pair", "finding", "prompts", "group")
"""What makes a claim, or an error in its place, that of one test."""


def make_record(
    run: Mapping[str, Json],
    pairs: Sequence[Mapping[str, Json]],
    claims: Sequence[Mapping[str, Json]],
    errors: Sequence[Mapping[str, Json]] = (),
) -> RunRecord:
    """The record of a run. Claims are sorted by finding, pair, prompt set and group, so that their order does not
    depend on which worker finished first; their examples move to the record's own list. ``errors``: one for each claim
    that could not be made, the last where a test was tried several times, none where a later try made the claim."""
    ordered = sorted(claims, key=lambda c: (c["pair"], c["finding"], c["prompts"], c["group"]))
    examples = [{"finding": claim["finding"], **example} for claim in ordered for example in claim["examples"]]
    bare = [{k: v for k, v in claim.items() if k != "examples"} for claim in ordered]
    made = {tuple(claim[part] for part in PLACE) for claim in ordered}
    failed = {tuple(error[part] for part in PLACE): error for error in errors}
    return RunRecord(
        schema=SCHEMA,
        run=plain(run),
        pairs=plain(pairs),
        claims=bare,
        examples=examples,
        errors=[plain(failed[place]) for place in sorted(failed.keys() - made)],
    )


def record_text(record: RunRecord) -> str:
    """The record as JSON with the checksum of all the rest: against damage, not against somebody who makes it fit."""
    fields = {name: plain(getattr(record, name)) for name in FIELDS}
    return json.dumps({"sha256": seal(fields), **fields}, indent=1, ensure_ascii=False) + "\n"


def write_record(record: RunRecord, path: Path) -> Path:
    """Write the record as JSON, whole or not at all. Raises RecordError where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, record_text(record).encode())
    except OSError as error:
        raise RecordError(f"The run record cannot be written to {path}: {error.strerror or error}.") from error
    return path


def read_record(path: Path) -> RunRecord:
    """Read a run record; one of an older version without a checksum is not ``sealed``.

    Raises RecordError for a missing, foreign, damaged or newer file.
    """
    try:
        data = parse_json(path.read_bytes(), constant=float)
    except OSError as error:
        raise RecordError(f"No run record at {path}: {error.strerror}. `pytest suites` writes one.") from error
    except MalformedError as error:
        raise RecordError(
            f"{path} cannot be read: {error}. A run record is the run.json that `pytest suites` writes."
        ) from error
    check_schema(data, path)
    rest = {name: value for name, value in data.items() if name != "sha256"}
    if "sha256" in data and data["sha256"] != seal(rest):
        raise RecordError(
            f"{path} is damaged or was edited: its checksum does not fit its contents. Run again, or restore the file."
        )
    return RunRecord(**{name: data.get(name, ()) for name in FIELDS}, sealed="sha256" in data)


def check_schema(data: Json, path: Path) -> None:
    """Raise RecordError for JSON that is not a run record of this schema; ``path`` is where it was read."""
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int) or "claims" not in data:
        raise RecordError(f"{path} is not a run record: it has no `schema` and `claims`.")
    if data["schema"] != SCHEMA:
        raise RecordError(
            f"{path} has schema {data['schema']}, this tuneshift reads {SCHEMA}. "
            "Read it with the version that wrote it (run.versions.tuneshift in the file)."
        )
    missing = [name for name in ("run", "pairs") if name not in data]
    if missing:
        raise RecordError(f"{path} lacks {' and '.join(missing)}; the file is cut or was edited.")
    check_fields(data, str(path))
