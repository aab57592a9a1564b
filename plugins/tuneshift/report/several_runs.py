"""Several run records as one, for a report over pairs, nights or shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import RecordError
from ..plain import Json
from ..run_record import PLACE, RunRecord


def merged(records: Sequence[RunRecord]) -> RunRecord:
    """One record with the pairs, claims and examples of all, and every run's own fields in ``run["runs"]``.

    A pair is its name and the fingerprints of its checkpoints: another pair of the same name is renamed after its
    tuned checkpoint's fingerprint, and where a claim was tested twice on the same pair, the later record's counts.
    Raises RecordError where there is none, or where records have different schemas.
    """
    if not records:
        raise RecordError("There is no run record to report on; name at least one run.json.")
    if len({record.schema for record in records}) > 1:
        found = ", ".join(str(record.schema) for record in records)
        raise RecordError(f"The run records have schemas {found}; render each with the version that wrote it.")
    if len(records) == 1:
        return records[0]
    names: dict[tuple[str, ...], str] = {}
    pairs: dict[str, Mapping[str, Json]] = {}
    claims: dict[tuple[Json, ...], Mapping[str, Json]] = {}
    examples: dict[tuple[Json, ...], Mapping[str, Json]] = {}
    errors: dict[tuple[Json, ...], Mapping[str, Json]] = {}
    for record in records:
        renamed = {str(p.get("name")): names.setdefault(identity(p), unused_name(p, set(names.values())))
                   for p in record.pairs}  # fmt: skip
        pairs |= {renamed[str(p.get("name"))]: {**p, "name": renamed[str(p.get("name"))]} for p in record.pairs}
        made = _keyed(record.claims, renamed, PLACE)
        failed = _keyed(record.errors, renamed, PLACE)
        # What a later run could claim failed no more; what it could not claim stands as the earlier one claimed it.
        errors = {place: row for place, row in errors.items() if place not in made}
        errors |= {place: row for place, row in failed.items() if place not in claims}
        claims |= made
        examples |= _keyed(record.examples, renamed, ("pair", "prompt_set", "group", "id"))
    runs = [dict(record.run) for record in records]
    return RunRecord(
        schema=records[0].schema,
        run={**runs[-1], "runs": runs},
        pairs=list(pairs.values()),
        claims=list(claims.values()),
        examples=list(examples.values()),
        errors=list(errors.values()),
    )


def _keyed(
    rows: Sequence[Mapping[str, Json]], renamed: Mapping[str, str], parts: Sequence[str]
) -> dict[tuple[Json, ...], Mapping[str, Json]]:
    moved = [{**row, "pair": renamed.get(str(row.get("pair")), row.get("pair"))} for row in rows]
    return {tuple(row.get(part) for part in parts): row for row in moved}


def runs_of(record: RunRecord) -> list[Mapping[str, Json]]:
    """The own fields of every run in a record: of a merged one all, else of the one run."""
    held = record.run.get("runs")
    listed = [run for run in held if isinstance(run, Mapping)] if isinstance(held, list | tuple) else []
    return listed or [record.run]


def identity(pair: Mapping[str, Json]) -> tuple[str, ...]:
    """What makes a pair the same pair: its name and the fingerprint of the checkpoint in each role."""
    roles = sorted((role, ref) for role, ref in pair.items() if isinstance(ref, Mapping))
    return (str(pair.get("name")), *(f"{role} {ref.get('fingerprint')}" for role, ref in roles))


def unused_name(pair: Mapping[str, Json], taken: set[str]) -> str:
    """The pair's name; where another pair has it, followed by its tuned checkpoint's fingerprint, or by a count."""
    name = str(pair.get("name"))
    tuned = pair.get("tuned")
    mark = str(tuned.get("fingerprint") or "")[:8] if isinstance(tuned, Mapping) else ""
    candidates = [name, f"{name} @{mark}"] if mark else [name]
    free = [candidate for candidate in candidates if candidate not in taken]
    if free:
        return free[0]
    count = 2
    while f"{candidates[-1]} ({count})" in taken:
        count += 1
    return f"{candidates[-1]} ({count})"
