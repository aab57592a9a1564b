"""What a gate can see: the true loss of a claim that would be red in four of five runs. Pure, on run records.

After a comparison it rests on the scatter of the change that was found; before one, and where the change hardly varies,
on a plan: of values with a range, that `FLIPS` of the items go from one end to the other and as many back
without any change, of others that the change of an effect scatters by the root of two of the effect's own error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from ..errors import UsageError
from ..plain import NOTHING, Json
from ..run_record import RunRecord
from ..statistics.differences import paired_difference
from ..statistics.gate_rule import Spread, detectable_loss
from ..statistics.intervals import Intervals
from ..statistics.statistic import Arm, Statistic
from .claim_change import ClaimChange, as_recorded, design_effect, kind_of
from .rates import Rates, can_move, has_effect

FLIPS = 0.05
"""Share of items that flip each way without a change, where nothing is known of it, as in docs/gate.md's tables."""
POWER = 0.8
FEW = 30
"""Clusters below which the loss is named too small: the interval is longer at the loss than without one."""


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """How a change scatters, seen or planned: its ``spread``, and ``intervals`` around an ``effect`` with a standard
    ``error``, which say how much longer than t's the interval is that will decide (None: not at all)."""

    spread: Spread
    intervals: Intervals | None = None
    effect: float = 0.0
    error: float = 1.0

    def loss(self, direction: str, rates: Rates) -> float | None:
        """The true loss that would be red in `POWER` of runs; None where none would, by the range of the values, and
        where no interval can be given."""
        from scipy.special import stdtrit

        reach = 1.0
        if self.intervals is not None:
            t = -float(stdtrit(self.spread.freedom, rates.shown / rates.claims / 2)) * self.error
            low, high = self.intervals.at(1 - rates.shown / rates.claims)
            if not (math.isfinite(low) and math.isfinite(high)):
                return None
            reach = max(1.0, (high - self.effect) / t, (self.effect - low) / t)
        found = detectable_loss(spread=self.spread, reach=reach, power=POWER, **rates.told(direction))
        return None if 0 < self.spread.step < found else found


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What counts as one draw in a gate: item id -> its topic, and item id -> its cluster, which is held fixed."""

    clusters: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    strata: Mapping[str, str] = field(default_factory=lambda: NOTHING)

    def of(self, ids: Sequence[str]) -> Labels:
        """The labels of items, for `paired_difference`; an item that is not known is a draw and a stratum by itself."""
        return {
            "clusters": [self.clusters.get(i, i) for i in ids],
            "strata": [self.strata.get(i, i) for i in ids] if self.strata else None,
        }


class Labels(TypedDict):
    clusters: list[str]
    strata: list[str] | None


def loss_seen(change: ClaimChange, old: Mapping[str, Json], draws: Draws, rates: Rates) -> tuple[float | None, bool]:
    """The loss that the comparison of a claim with ``old`` would call red in `POWER` of runs, from the scatter of its
    change, and whether it is the planned one.

    That is used where it is smaller and the change scatters less than planned: few flips say little of how long the
    interval is at a loss. It is the only one where the change does not vary. None where no interval can be given.
    """
    statistic, direction = change.statistic, str(old["direction"])
    spread = _spread(statistic.standard_error, statistic.freedom, change.step, change.independent)
    plan = planned_scatter(old, draws) if spread is None or change.step > 0 else None
    planned = None if plan is None else plan.loss(direction, rates)
    if spread is None:
        return planned, planned is not None
    seen = Scatter(spread=spread, intervals=statistic.intervals, effect=statistic.effect, error=spread.error)
    found = seen.loss(direction, rates)
    quiet = plan is not None and change.step > 0 and spread.error < plan.spread.error
    if quiet and planned is not None and (found is None or planned < found):
        return planned, True
    return found, False


def planned_scatter(claim: Mapping[str, Json], draws: Draws) -> Scatter | None:
    """How the change of a baseline's claim is planned to scatter; None where the claim has no error."""
    arms = {label: dict(zip(arm["ids"], arm["x"], strict=True)) for label, arm in claim["values"].items()}
    if claim["effect"] is None or not arms:
        return None
    moving = [arm.get("span") for label, arm in claim["values"].items() if label != "base"]
    paired = "estimate" not in claim["details"] and kind_of(arms, claim["effect"]) == "paired"
    if paired and moving and None not in moving:
        step = sum(high - low for low, high in map(as_recorded, moving))
        return _of_flips(claim, list(next(iter(arms.values()))), draws, step) if step > 0 else None
    error = claim.get("standard_error")
    freedom = (claim.get("clusters") or 1) - 1
    spread = None if error is None else _spread(math.sqrt(2) * error, freedom, 0.0, max(1.0, freedom))
    return None if spread is None else Scatter(spread=spread)


def _of_flips(
    claim: Mapping[str, Json], ids: Sequence[str], draws: Draws, step: float
) -> Scatter | None:  # fmt: skip
    n = len(ids)
    flips = min(max(1, round(FLIPS * n)), n // 2)
    if flips < 1:
        return None
    moves = np.zeros(n)
    # Spread over the items, so that clusters of neighbours share none more than by chance.
    places = np.linspace(0, n - 1, 2 * flips).round().astype(int)
    moves[places[::2]], moves[places[1::2]] = step, -step
    zero = Arm(label="", ids=tuple(ids), values=np.zeros(n), span=(0.0, 0.0))
    moved = Arm(label="", ids=tuple(ids), values=moves, span=(-step, step))
    found = paired_difference(zero, moved, level=0.95, **draws.of(ids))
    independent = n / design_effect(own_effect(claim, draws))
    error = step * math.sqrt(2 * flips / n / independent)
    spread = _spread(max(error, found.standard_error), found.freedom, step, independent)
    return None if spread is None else Scatter(spread=spread, intervals=found.intervals, effect=found.effect,
                                               error=found.standard_error)  # fmt: skip


def own_effect(claim: Mapping[str, Json], draws: Draws) -> Statistic:
    """A paired claim's own effect with what counts as one draw in a gate, not with its record's standard error: a
    verdict's draws are clusters, which a gate holds fixed."""
    ids = list(next(iter(claim["values"].values()))["ids"])
    sides = [dict(zip(arm["ids"], arm["x"], strict=True)) for arm in claim["values"].values()]
    first, second = (Arm(label="", ids=tuple(ids), values=np.array([side[i] for i in ids])) for side in sides)
    return paired_difference(first, second, level=0.95, **draws.of(ids))


def _spread(error: float, freedom: float, step: float, items: float) -> Spread | None:
    known = 0 < error < math.inf and 0 < freedom < math.inf
    return Spread(error=error, freedom=freedom, step=step, items=items) if known else None


def planned_losses(
    baseline: RunRecord, margins: Mapping[str, float], *, claims: int, alpha: float, shown: float
) -> list[dict[str, Json]]:
    """The rows of `sight` for a baseline's claims before anything is compared with it."""
    rows = []
    for claim in baseline.claims:
        pair = next(p for p in baseline.pairs if p["name"] == claim["pair"])
        if not has_effect(claim) or not can_move(claim, pair, None):
            continue
        rates = Rates(
            margin=float(margins.get(claim["finding"], claim["sesoi"])), claims=claims, alpha=alpha, shown=shown
        )
        plan = planned_scatter(claim, draws_of(pair, claim["prompts"]))
        loss = None if plan is None else plan.loss(claim["direction"], rates)
        rows.append(sight_row(claim, loss, rates.margin, planned=True))
    return rows


def draws_of(pair: Mapping[str, Any], prompts: str) -> Draws:
    """What counts as one draw among a pair's prompts, by the set's name; each by itself for claims on weights."""
    found = [p["items"] for p in pair["prompts"] if p["name"] == prompts and p.get("items")]
    if not found:
        return Draws()
    clusters, strata = (dict(zip(found[0]["ids"], found[0][name], strict=True)) for name in ("topics", "clusters"))
    return Draws(clusters=clusters, strata=strata)


def sight_row(claim: Mapping[str, Json], loss: float | None, margin: float, *, planned: bool) -> dict[str, Json]:
    """What can be seen of one claim; ``planned``: from a plan, not from the change."""
    names = ("finding", "pair", "prompts", "group", "unit", "items", "clusters")
    return {**{name: claim[name] for name in names}, "loss": loss, "margin": margin, "planned": planned}


def sight(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json] | None:
    """What a gate can see, of all its claims: that of the claim on prompts (of any, where there are none) whose loss
    takes the most margins to be seen, how many claims there are, and the findings of those of which no loss can be
    seen. Of layers, heads and verbs nobody can take more. None without claims."""
    on_prompts = [row for row in rows if row["items"] == "prompts"] or list(rows)
    if not on_prompts:
        return None
    seen = [row for row in on_prompts if row["loss"] is not None]
    blind = sorted({row["finding"] for row in on_prompts if row["loss"] is None})
    last = max(seen, key=lambda row: row["loss"] / row["margin"], default=None)
    return {"claims": len(on_prompts), "blind": blind, "planned": any(row["planned"] for row in on_prompts),
            "last": None if last is None else dict(last)}  # fmt: skip


def joined_sight(parts: Sequence[Mapping[str, Json] | None]) -> dict[str, Json] | None:
    """What shards of one gate see together."""
    known = [part for part in parts if part is not None]
    last = [part["last"] for part in known if part["last"] is not None]
    return None if not known else {
        "claims": sum(part["claims"] for part in known),
        "blind": sorted({finding for part in known for finding in part["blind"]}),
        "planned": any(part["planned"] for part in known),
        "last": max(last, key=lambda row: row["loss"] / row["margin"], default=None),
    }  # fmt: skip


def sight_text(seen: Mapping[str, Json] | None) -> str:
    """``a loss of 0.085 ... would be red in 80 % of runs``, with what it rests on; empty for no claims."""
    if seen is None:
        return ""
    last, parts = seen["last"], []
    if last is not None:
        more = ", in every other claim a smaller one, in margins" if seen["claims"] > 1 else ""
        few = "at least " if last["clusters"] < FEW else ""
        margins = f"{last['loss'] / last['margin']:.3g} margins"
        parts.append(
            f"a loss of {few}{last['loss']:.3g} {last['unit']} in {last['finding']} ({margins}) would be red in "
            f"{100 * POWER:.0f} % of runs{more}"
        )
    if seen["blind"]:
        parts.append(f"no loss of any size would be red in {', '.join(seen['blind'])}")
    if seen["planned"]:
        parts.append(f"planned for {100 * FLIPS:.0f} % of items that flip each way by themselves")
    return "what it can see: " + "; ".join(parts)


def require_power(
    rows: Sequence[Mapping[str, Json]], wanted: Mapping[str | None, float], option: str, name: str
) -> None:
    """Raise UsageError where a gate sees less than ``wanted``: finding -> the loss in its unit that must be red in
    `POWER` of runs; None -> the same in margins for every claim on prompts."""
    for finding, least in wanted.items():
        rows_of = [row for row in rows if row["finding"] == finding or (finding is None and row["items"] == "prompts")]
        if finding is not None and not rows_of:
            known = sorted({row["finding"] for row in rows})
            raise UsageError(
                f"{option} names {finding}, of which baseline {name!r} holds nothing that can move; it holds "
                f"{', '.join(known) or 'no such claim'}."
            )
        for row in rows_of:
            size = None if row["loss"] is None else row["loss"] / (row["margin"] if finding is None else 1)
            if size is None or size > least:
                unit = "margins" if finding is None else row["unit"]
                sees = "no loss of any size" if size is None else f"a loss of {size:.3g} {unit}, no smaller one"
                raise UsageError(
                    f"{option} asks that a loss of {least:g} {unit} in {row['finding']} would be red in "
                    f"{100 * POWER:.0f} % of runs; against baseline {name!r} this gate sees {sees}. Ask more prompts, "
                    "save the baseline with fewer claims, or allow a larger loss."
                )
