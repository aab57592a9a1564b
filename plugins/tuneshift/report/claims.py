"""Claims as the templates and the summary see them: arms, distributions, certainty, anchors, gathered by finding."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..claims.claim_record import depends_on_reading, other_paths
from ..claims.finding import Outcome
from ..plain import Json
from .axes import axis, histogram, padded, quartiles, round_step
from .changes import baseline_estimate, comparison_view
from .figures import Budget, figure_views, page_budget
from .items import extremes
from .values import estimate, finite, shown

View = dict[str, Any]


def arm_views(claim: Mapping[str, Json]) -> list[View]:
    """The sides of a comparison with their finite values by id; base and tuned where no arms are listed."""
    arms = claim.get("arms") or [{"label": role, **claim[role]} for role in ("base", "tuned") if claim.get(role)]
    recorded = claim.get("values") or {}
    views = []
    for arm in arms:
        held = recorded.get(arm.get("label")) or {}
        pairs = zip(held.get("ids") or (), held.get("x") or (), strict=False)
        views.append(
            {**arm, "span": held.get("span"), "by_id": {str(i): x for i, v in pairs if (x := finite(v)) is not None}}
        )
    return views


def distribution(claim: Mapping[str, Json], arms: Sequence[View]) -> View | None:
    """Histograms of each arm on one scale and, where two arms share their items, of the paired differences."""
    values = [list(arm["by_id"].values()) for arm in arms]
    if not any(values):
        return None
    pooled = [x for side in values for x in side]
    scale = axis(pooled)
    bins = round_step(scale.high - scale.low, 16)
    sides = [
        {"arm": arm, "mean": statistics.fmean(x), "middle": quartiles(x), **histogram(x, padded(scale, bins), bins)}
        for arm, x in zip(arms, values, strict=True)
        if x
    ]
    result: View = {"axis": padded(scale, bins), "sides": sides, "difference": None}
    if len(arms) == 2 and set(arms[0]["by_id"]) == set(arms[1]["by_id"]):
        first, second = arms[0]["by_id"], arms[1]["by_id"]
        differences = [second[i] - first[i] for i in first]
        sesoi = finite(claim.get("sesoi")) or 0.0
        scale = axis([*differences, 0.0, sesoi, -sesoi])
        bins = round_step(scale.high - scale.low, 16)
        scale = padded(scale, bins)
        result["difference"] = {"axis": scale, "n": len(differences), **histogram(differences, scale, bins)}
        result["difference"]["share_above"] = sum(d > 0 for d in differences) / len(differences)
    return result


def agreement(arms: Sequence[View]) -> list[View]:
    """Of two arms that say 0 or 1 of the same items, how many items are of each kind, with their shares of a bar.

    Nothing for any other arms: a histogram of two values says less. Nor for arms of another range, which may be 0 in
    every item and are no answers.
    """
    if any(arm.get("span") not in (None, [0, 1]) for arm in arms):
        return []
    if len(arms) != 2 or not arms[0]["by_id"] or set(arms[0]["by_id"]) != set(arms[1]["by_id"]):
        return []
    pairs = Counter((x, arms[1]["by_id"][i]) for i, x in arms[0]["by_id"].items())
    if any(value not in (0, 1) for pair in pairs for value in pair):
        return []
    first, second = (str(arm.get("label")) for arm in arms)
    kinds = {"both": (1, 1), "second": (0, 1), "first": (1, 0), "neither": (0, 0)}
    names = {"both": "both", "second": f"{second} alone", "first": f"{first} alone", "neither": "neither"}
    cells, at = [], 0.0
    for kind, which in kinds.items():
        width = 100 * pairs[which] / pairs.total()
        cells.append({"kind": kind, "name": names[kind], "count": pairs[which], "at": at, "width": width})
        at += width
    return cells


def flattened(value: Json, name: str = "") -> list[tuple[str, str]]:
    """Nested details as (dotted name, text) rows; lists of scalars on one line."""
    if isinstance(value, Mapping):
        return [row for key, inner in value.items() for row in flattened(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(shown(x)) for x in value))]
    return [(name, str(shown(value)))]


def slug(*parts: Json) -> str:
    """An anchor from names: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.]+", "-", "/".join(str(p) for p in parts if p)).strip("-")


def where(claim: Mapping[str, Json], several_sets: bool) -> str:
    """The group of a claim, and its prompt set where the pair has several or the set has no groups."""
    group, prompts = str(claim.get("group") or "all"), str(claim.get("prompts") or "")
    named = [part for part, wanted in ((prompts, several_sets or group == "all"), (group, group != "all")) if wanted]
    return " · ".join(part for part in named if part) or group


def claim_view(
    claim: Mapping[str, Json], anchor: str, several_sets: bool = False, budget: Budget | None = None
) -> View:
    """A claim with what its rows and figures print."""
    arms = arm_views(claim)
    known = {outcome.value for outcome in Outcome}
    verdict = claim.get("verdict") if claim.get("verdict") in known else Outcome.NOT_APPLICABLE.value
    expected = claim.get("expected") or None
    paired = len(arms) == 2 and bool(arms[0]["by_id"]) and set(arms[0]["by_id"]) == set(arms[1]["by_id"])
    return {
        **claim,
        "anchor": anchor,
        "verdict": verdict,
        "arms": arms,
        "many": str(claim.get("items") or "prompts"),
        "one": str(claim.get("items") or "prompts").removesuffix("s"),
        "paired": paired,
        "named_arms": bool(arms) and not (claim.get("base") and claim.get("tuned")),
        "expected": expected,
        "as_expected": expected is not None and expected.get("verdict") == verdict,
        "estimate": estimate(claim.get("effect"), claim.get("interval")),
        "agreement": agreement(arms),
        "distribution": distribution(claim, arms),
        "items_held": len({i for arm in arms for i in arm["by_id"]}),
        "extremes": extremes(arms, paired),
        "details": flattened(claim.get("details") or {}),
        "figures": figure_views(claim.get("figures"), budget),
        "where": where(claim, several_sets),
        "depends": depends_on_reading(claim),
        "other_paths": other_paths(claim),
        "comparison": comparison_view(claim),
        "baseline_estimate": baseline_estimate(claim),
        "shortfall": shortfall(claim),
    }


def shortfall(claim: Mapping[str, Json]) -> float:
    """How far the effect lies from the claimed side of the sesoi, in sesois; negative where it lies within.

    Minus infinity where there is no effect, so that what was not tested is nobody's worst claim.
    """
    effect, sesoi = finite(claim.get("effect")), finite(claim.get("sesoi")) or 0.0
    if effect is None:
        return -math.inf
    beyond = {"less": effect + sesoi, "equivalent": abs(effect) - sesoi}.get(
        str(claim.get("direction")), (-sesoi if claim.get("noninferior") else sesoi) - effect
    )
    return beyond / (sesoi or 1.0)


def unused(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken already; takes it."""
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free)
    return free


def finding_views(claims: Sequence[Mapping[str, Json]]) -> list[View]:
    """Claims gathered by finding, in order of appearance, each finding with the scale of its forest panel."""
    gathered: dict[str, list[Mapping[str, Json]]] = {}
    for claim in claims:
        gathered.setdefault(str(claim.get("finding")), []).append(claim)
    budget = page_budget(claims)
    taken: set[str] = set()
    anchors = {finding: unused(slug(finding), taken) for finding in gathered}
    views = []
    for finding, rows in gathered.items():
        names = [slug(finding, *(row.get(part) for part in ("pair", "prompts", "group"))) for row in rows]
        sets = Counter(pair for pair, _ in {(row.get("pair"), row.get("prompts")) for row in rows})
        members = [
            claim_view(row, unused(name, taken), sets[row.get("pair")] > 1, budget)
            for row, name in zip(rows, names, strict=True)
        ]
        reach = [x for c in members for x in (c.get("effect"), c["baseline_estimate"], *(c.get("interval") or ()))]
        sesoi = finite(members[0].get("sesoi"))
        scale = axis([*reach, 0.0, *((1.15 * sesoi, -1.15 * sesoi) if sesoi else ())])
        views.append({**members[0], "id": finding, "anchor": anchors[finding], "claims": members, "axis": scale})
    return views
