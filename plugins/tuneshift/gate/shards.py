"""Several run records, shards of one run, as one: claims together, and what is said of all of them anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..claims.decisions import Key, claim_key, exposure_of, with_run_wide
from ..errors import UsageError
from ..plain import Json
from ..record_fields import check_shard
from ..run_record import PLACE, RunRecord, make_record
from .look import gate_summary
from .matching import named
from .sight import joined_sight

SAME = ("alpha", "response", "measures", "settings", "versions")
"""Fields of a run on which its numbers or decisions rest; shards that differ in them are not of one run."""

RUN_WIDE = ("adjusted_p", "q")
"""Fields of a claim that rest on the other claims of its run."""


def merge(records: Sequence[RunRecord], names: Sequence[str], *, command: str) -> RunRecord:
    """The record that one run of all the claims would have left, but for times, host and command.

    ``names`` say where each record was read, for messages. A claim that several records hold identically counts once.
    Verdicts and comparisons with a baseline stay as they are: each rests on its own claim. Adjusted p and q are of the
    union. The exit code is the largest of the shards'.

    Raises UsageError for shards of different runs: other settings, versions, checkpoints, prompts or baselines, and for
    a claim on which two records disagree; what differs is named.
    """
    for record, name in zip(records, names, strict=True):
        check_shard(record, name)
    first = records[0]
    for record, name in zip(records[1:], names[1:], strict=True):
        _check_runs(first.run, record.run, names[0], name)
    pairs = _pairs(records, names)
    claims = with_run_wide(_claims(records, names))
    examples = _examples(records)
    with_examples = [{**claim, "examples": examples.get(claim_key(claim), [])} for claim in claims]
    errors = [error for record in records for error in record.errors]
    return make_record(_run(records, with_examples, command), pairs, with_examples, errors)


def _check_runs(here: Mapping[str, Json], there: Mapping[str, Json], name: str, other: str) -> None:
    differs = [f"{field} ({here.get(field)!r} and {there.get(field)!r})" for field in SAME
               if here.get(field) != there.get(field)]  # fmt: skip
    if here.get("baseline") != there.get("baseline"):
        looks = [f"{b['name']} saved {b['saved']}, error rate {b['alpha']:g}" if b else "none"
                 for b in (here.get("baseline"), there.get("baseline"))]  # fmt: skip
        differs.append(
            f"the baseline ({' and '.join(looks)}; with a budget of looks, merge first and compare the merged record)"
        )
    if differs:
        raise UsageError(f"{name} and {other} are not shards of one run: they differ in {'; '.join(differs)}.")


def _pairs(records: Sequence[RunRecord], names: Sequence[str]) -> list[Mapping[str, Json]]:
    found: dict[str, tuple[Mapping[str, Json], str]] = {}
    for record, name in zip(records, names, strict=True):
        for pair in record.pairs:
            known, where = found.setdefault(pair["name"], (pair, name))
            if known != pair:
                fields = [key for key in {**known, **pair} if known.get(key) != pair.get(key)]
                raise UsageError(
                    f"Pair {pair['name']!r} is not the same in {where} and {name}: {', '.join(fields)} differ. Shards "
                    "of one run name the same checkpoints and prompts; give other pairs other names."
                )
    return [pair for pair, _ in found.values()]


def _claims(records: Sequence[RunRecord], names: Sequence[str]) -> list[Mapping[str, Json]]:
    found: dict[Key, tuple[Mapping[str, Json], str]] = {}
    for record, name in zip(records, names, strict=True):
        for claim in record.claims:
            known, where = found.setdefault(claim_key(claim), (claim, name))
            if differing := [f for f in {**known, **claim} if f not in RUN_WIDE and known.get(f) != claim.get(f)]:
                raise UsageError(
                    f"{claim['finding']} on {claim['pair']}, {claim['prompts']}, {claim['group']} is not the same in "
                    f"{where} and {name}: {named(differing)} differ. Merge shards of one run; runs of different "
                    "checkpoints are compared by `tuneshift gate`."
                )
    return sorted((claim for claim, _ in found.values()), key=claim_key)


def _examples(records: Sequence[RunRecord]) -> dict[Key, list[Json]]:
    """The examples of each claim, without its finding, as `make_record` takes them; of the first record with any."""
    found: dict[Key, list[Json]] = {}
    for record in records:
        own: dict[Key, list[Json]] = {}
        for example in record.examples:
            key = (example["pair"], example["finding"], example["prompt_set"], example["group"])
            own.setdefault(key, []).append({k: v for k, v in example.items() if k != "finding"})
        found = {**own, **found}
    return found


def _run(records: Sequence[RunRecord], claims: Sequence[Mapping[str, Json]], command: str) -> dict[str, Json]:
    runs = [record.run for record in records]
    return {
        **runs[0],
        "started": min(run["started"] for run in runs),
        "finished": max(run["finished"] for run in runs),
        "duration_s": round(sum(run["duration_s"] for run in runs), 2),
        "costs": [row for run in runs for row in run.get("costs", ())],
        **exposure_of(claims, float(runs[0]["alpha"])).fields(),
        "command": command,
        "exit_code": max(run["exit_code"] for run in runs),
        "selection": None,
        "pairs_left_out": [],
        "gate": _gate(runs, claims),
    }


def _gate(runs: Sequence[Mapping[str, Json]], claims: Sequence[Mapping[str, Json]]) -> Mapping[str, Json] | None:
    """The shards' gates as one: what none of them asked is missing, since together they are the whole run."""
    gates = [run["gate"] for run in runs if run.get("gate")]
    if len(gates) < len(runs):
        return None
    rows = [{_place(row): row for row in gate["not_asked"]} for gate in gates]
    nowhere = [row for place, row in rows[0].items() if all(place in other for other in rows)]
    missing = {_place(row): row for gate in gates for row in gate["missing"]}
    missing |= {_place(row): {**row, "reason": "No shard asked it."} for row in nowhere}
    made = {_place(claim) for claim in claims}
    missing = {place: row for place, row in missing.items() if place not in made}
    sees = joined_sight([gate["sees"] for gate in gates])
    allowed = all(gate["allow_missing"] for gate in gates)
    return gate_summary(claims, list(missing.values()), [], sees, allow_missing=allowed)


def _place(row: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(str(row[part]) for part in PLACE)
