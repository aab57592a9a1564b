"""A claim as plain JSON: what the run record keeps of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..plain import NOTHING, Json, plain
from ..run_record import PREFIX
from ..statistics.assurance import NeededItems
from ..statistics.statistic import Arm, Statistic
from .finding import Expectation, Finding, Verdict

IDENTICAL = "identical weights: every difference is 0 by construction"
"""The reason of a claim whose checkpoints are one, asked alike: it has an effect of 0 and nothing was tested."""


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
    family_size: int,
    p_decides: float | None,
    expected: Expectation | None,
    left_out: Mapping[str, int],
    noise_floor: Mapping[str, Json] | None = None,
    evidence: Mapping[str, str | None] = NOTHING,
    sensitivity: Sequence[Mapping[str, Json]] = (),
    secondary: Sequence[Mapping[str, Json]] = (),
    examples: Sequence[Mapping[str, Json]] = (),
    figures: Sequence[Mapping[str, Json]] = (),
) -> dict[str, Json]:
    """One claim of the run record. ``statistic`` is None where the finding was not applicable.

    ``adjusted_p`` and ``q``, which need all claims of a run, are filled in when the record is written.
    """
    arms = statistic.arms if statistic else ()
    by_label = {arm.label: arm for arm in arms}
    described = {k: v for k, v in asdict(finding).items() if k not in ("id", "needs")}
    if statistic is not None and statistic.unit is not None:
        described["unit"] = statistic.unit
    measures = sorted({need.partition(".")[0] for _, need in finding.needs})
    record = {
        "finding": finding.id,
        **described,
        "family_size": family_size,
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
        **needed_fields(verdict.needed, finding.items),
        "p_decides": p_decides,
        "adjusted_p": None,
        "q": None,
        "noise_floor": noise_floor,
        "evidence": evidence,
        "comparison": None,
        "expected": {"verdict": expected.verdict, "reason": expected.reason} if expected else None,
        "left_out": left_out,
        "sensitivity": sensitivity,
        "secondary": secondary,
        "values": {arm.label: _values(arm) for arm in arms},
        "scores": {arm.label: _values(arm) for arm in statistic.scores} if statistic else {},
        "examples": examples,
        "figures": figures,
    }
    result: dict[str, Json] = plain(record)
    return result


def needed_fields(needed: NeededItems | None, items: str) -> dict[str, Json]:
    """``n_needed`` and ``n_at_least``, and both in words as ``needed``; None for more than can be named."""
    if needed is None:
        return {"n_needed": None, "n_at_least": None, "needed": None}
    return {"n_needed": needed.assured, "n_at_least": needed.at_least, "needed": needed.text(items)}


def _numbers(statistic: Statistic | None, level: float) -> dict[str, Any]:
    if statistic is None:
        empty = dict.fromkeys(("effect", "p", "method", "seed", "standard_error", "freedom", "asked", "intervals"))
        return {**empty, "n": 0, "clusters": 0, "interval": [None, None], "level": level, "details": {}}
    names = ("effect", "interval", "level", "p", "n", "clusters", "standard_error", "freedom", "asked", "method",
             "seed", "details")  # fmt: skip
    return {**{name: getattr(statistic, name) for name in names}, "intervals": statistic.intervals.plain()}


def _values(arm: Arm) -> dict[str, Json]:
    """Ids, values to six decimals, and the range that they cannot leave."""
    return {"ids": arm.ids, "x": [round(float(x), 6) for x in arm.values], "span": arm.span}


def brief(name: str, statistic: Statistic, **more: Json) -> dict[str, Json]:
    """A statistic beside the deciding one: effect, interval, p and n under a name."""
    numbers = ("effect", "interval", "p", "n", "clusters", "standard_error")
    fields = {**{field: getattr(statistic, field) for field in numbers}, "intervals": statistic.intervals.plain()}
    result: dict[str, Json] = plain({"name": name, **fields, **more})
    return result


def nothing(name: str, why: str) -> dict[str, Json]:
    """A row like `brief`'s where there is no statistic, with the reason."""
    return {"name": name, "effect": None, "interval": [None, None], "p": None, "n": 0, "note": why}


def flat_properties(claim: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """The claim's scalars for ``--junitxml``: no per-item values, no examples, nothing that other claims change."""
    names = (
        "finding", "pair", "prompts", "group", "n", "clusters", "effect", "level", "p", "method", "sesoi", "unit",
        "verdict", "reason", "n_needed", "source", "family", "family_size", "p_decides",
    )  # fmt: skip
    low, high = claim["interval"]
    flat = [(f"{PREFIX}{name}", claim[name]) for name in names]
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


def other_paths(claim: Mapping[str, Json]) -> str | None:
    """What to know of an effect in half precision whose sides were attributed by different paths; None for any other.

    There the paths differ by up to a tenth (`measures.attribution.backend.AGREEMENT`), in float32 by some 1e-5.
    """
    details = claim.get("details") or {}
    paths = details.get("attribution_paths") or {}
    if len(set(paths.values())) < 2 or not details.get("precision_cost"):
        return None
    taken = ", ".join(f"{role} by the {path} path" for role, path in paths.items())
    return (
        f"In half precision {taken}: the paths differ by up to a tenth there, which is no effect of tuning. Measure in "
        "float32 to be sure."
    )


NOT_MEASURED = "not measured: "
"""How the note of a reading begins that rests on what was not measured."""


def not_measured(claims: Sequence[Mapping[str, Json]]) -> list[str]:
    """A line for each reason why readings of claims were not measured: which readings, of how many claims."""
    names: dict[str, dict[str, None]] = {}
    counts: Counter[str] = Counter()
    for claim in claims:
        rows = [row for row in claim.get("sensitivity") or () if str(row.get("note") or "").startswith(NOT_MEASURED)]
        for row in rows:
            names.setdefault(row["note"], {})[row["name"]] = None
        counts.update({row["note"] for row in rows})
    return [
        f"not measured, a reading of {counts[note]} claims ({'; '.join(found)}): {note.removeprefix(NOT_MEASURED)}"
        for note, found in names.items()
    ]


def depends_on_reading(claim: Mapping[str, Json]) -> bool:
    """Whether one of the sensitivity rows would give a decided claim another verdict."""
    others = {row.get("verdict") for row in claim.get("sensitivity") or ()} - {"not_applicable", None}
    return claim.get("verdict") in ("reproduced", "contradicted") and bool(others - {claim.get("verdict")})
