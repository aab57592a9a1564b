"""Verdicts as plain JSON types, and the run record: one file that reports and gates read. ``docs/run-record.md``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import RecordError
from .files import publish
from .records import Arm, Expectation, Finding, Json, Outcome, RunRecord, Statistic, Verdict

SCHEMA = 1
"""Goes up when a field changes its meaning or goes away; new fields do not raise it."""


def plain(value: Any) -> Json:
    """The value in JSON types only: numpy scalars and arrays unwrapped, NaN and infinities as None, keys as strings.

    xdist sends nothing else between processes: a numpy float would be an internal error there.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Outcome):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def summary(arm: Arm | None) -> Json:
    """An arm's label, mean, population standard deviation and n."""
    return None if arm is None else plain({"label": arm.label, "mean": arm.mean, "sd": arm.sd, "n": len(arm.values)})


def claim_record(
    finding: Finding,
    statistic: Statistic | None,
    verdict: Verdict,
    *,
    pair: str,
    prompts: str,
    group: str,
    level: float,
    expected: Expectation | None,
    left_out: Mapping[str, int],
    noise_floor: Mapping[str, Json] | None = None,
    sensitivity: Sequence[Mapping[str, Json]] = (),
    secondary: Sequence[Mapping[str, Json]] = (),
    examples: Sequence[Mapping[str, Json]] = (),
    figures: Sequence[Mapping[str, Json]] = (),
) -> dict[str, Json]:
    """One claim of the run record. ``statistic`` is None where the finding was not applicable."""
    arms = statistic.arms if statistic else ()
    by_label = {arm.label: arm for arm in arms}
    described = {k: v for k, v in asdict(finding).items() if k not in ("id", "needs")}
    measures = sorted({need.partition(".")[0] for _, need in finding.needs})
    record = {
        "finding": finding.id,
        **described,
        "pair": pair,
        "prompts": prompts,
        "group": group,
        "measures": measures,
        "base": summary(by_label.get("base")),
        "tuned": summary(by_label.get("tuned")),
        "arms": [summary(arm) for arm in arms],
        **_numbers(statistic, level),
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "n_needed": verdict.n_needed,
        "p_decides": None,
        "adjusted_p": None,
        "q": None,
        "noise_floor": noise_floor,
        "comparison": None,
        "expected": {"verdict": expected.verdict, "reason": expected.reason} if expected else None,
        "left_out": left_out,
        "sensitivity": sensitivity,
        "secondary": secondary,
        "values": {arm.label: {"ids": arm.ids, "x": [round(float(x), 6) for x in arm.values]} for arm in arms},
        "examples": examples,
        "figures": figures,
    }
    result: dict[str, Json] = plain(record)
    return result


def _numbers(statistic: Statistic | None, level: float) -> dict[str, Any]:
    if statistic is None:
        empty = dict.fromkeys(("effect", "p", "method", "seed", "standard_error", "intervals"))
        return {**empty, "n": 0, "clusters": 0, "interval": [None, None], "level": level, "details": {}}
    names = ("effect", "interval", "level", "p", "n", "clusters", "standard_error", "method", "seed", "details")
    return {**{name: getattr(statistic, name) for name in names}, "intervals": statistic.intervals.plain()}


def brief(name: str, statistic: Statistic, **more: Json) -> dict[str, Json]:
    """A statistic beside the deciding one: effect, interval, p and n under a name."""
    numbers = ("effect", "interval", "p", "n", "clusters", "standard_error")
    fields = {**{field: getattr(statistic, field) for field in numbers}, "intervals": statistic.intervals.plain()}
    result: dict[str, Json] = plain({"name": name, **fields, **more})
    return result


def flat_properties(claim: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """The claim's scalars for ``--junitxml``: no per-item values, no examples."""
    names = (
        "finding", "pair", "prompts", "group", "n", "clusters", "effect", "level", "p", "method", "sesoi", "unit",
        "verdict", "reason", "n_needed", "source", "p_decides", "adjusted_p", "q",
    )  # fmt: skip
    low, high = claim["interval"]
    flat = [(f"tuneshift.{name}", claim[name]) for name in names]
    flat += [("tuneshift.interval_low", low), ("tuneshift.interval_high", high)]
    for arm in claim["arms"]:
        flat += [(f"tuneshift.{arm['label']}.mean", arm["mean"]), (f"tuneshift.{arm['label']}.sd", arm["sd"])]
    if claim.get("noise_floor"):
        flat.append(("tuneshift.noise_floor", claim["noise_floor"]["floor"]))
    if claim.get("comparison"):
        flat.append(("tuneshift.comparison", claim["comparison"]["outcome"]))
    if claim["expected"]:
        flat.append(("tuneshift.expected", claim["expected"]["verdict"]))
    return flat


def depends_on_reading(claim: Mapping[str, Json]) -> bool:
    """Whether one of the sensitivity rows would give a decided claim another verdict."""
    others = {row.get("verdict") for row in claim.get("sensitivity") or ()} - {"not_applicable", None}
    return claim.get("verdict") in ("reproduced", "contradicted") and bool(others - {claim.get("verdict")})


def make_record(
    run: Mapping[str, Json], pairs: Sequence[Mapping[str, Json]], claims: Sequence[Mapping[str, Json]]
) -> RunRecord:
    """The record of a run. Claims are sorted by finding, pair, prompt set and group, so that their order does not
    depend on which worker finished first; their examples move to the record's own list."""
    ordered = sorted(claims, key=lambda c: (c["pair"], c["finding"], c["prompts"], c["group"]))
    examples = [{"finding": claim["finding"], **example} for claim in ordered for example in claim["examples"]]
    bare = [{k: v for k, v in claim.items() if k != "examples"} for claim in ordered]
    return RunRecord(schema=SCHEMA, run=plain(run), pairs=plain(pairs), claims=bare, examples=examples)


def write_record(record: RunRecord, path: Path) -> Path:
    """Write the record as JSON, whole or not at all. Raises RecordError where the folder cannot be written."""
    fields = ("schema", "run", "pairs", "claims", "examples")
    text = json.dumps({name: plain(getattr(record, name)) for name in fields}, indent=1, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, (text + "\n").encode())
    except OSError as error:
        raise RecordError(f"The run record cannot be written to {path}: {error.strerror or error}.") from error
    return path


def read_record(path: Path) -> RunRecord:
    """Read a run record. Raises RecordError for a missing, foreign, damaged or newer file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"No run record at {path}: {error.strerror}. `pytest suites` writes one.") from error
    except ValueError as error:
        raise RecordError(
            f"{path} is not JSON ({error}); a run record is the run.json that `pytest suites` writes."
        ) from error
    check_schema(data, path)
    return RunRecord(**{name: data.get(name, ()) for name in ("schema", "run", "pairs", "claims", "examples")})


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
