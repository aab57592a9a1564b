"""Responses of two runs set against each other, where a judge decided by pairs. Pure, on run records.

A win over the base says how far the base was beaten and little of how good a response is: of two tuned checkpoints that
both beat it always, one may be much the better. Where the judge also scored each response by itself, and the records
keep that, the new run's response wins, ties or loses against the baseline's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..plain import Json
from .matching import MatchedItems

Claim = Mapping[str, Json]

TIE = 2e-6
"""Twice what the record's six decimals can move a score by."""
CHANCE = 0.5


def compared_directly(claim: Claim, old: Claim, items: MatchedItems | None) -> tuple[Claim, Claim]:
    """Both claims with wins of the new second arm's responses over the baseline's, ties half, in place of wins over the
    first arm's; as they are where a record has no `scores`.

    The change of these claims is wins less losses against the baseline, in -1..1. An item that only one run scored
    keeps the one half of a tie there, and is counted as lost by whoever pairs the items.
    """
    here, there = (_second(made) for made in (claim, old))
    if here is None or there is None:
        return claim, old
    baseline_id = items.baseline_id if items else {i: i for i in here}
    won = dict.fromkeys(here, CHANCE)
    lost = dict.fromkeys(there, CHANCE)
    for new, other in baseline_id.items():
        if new in here and other in there:
            ahead = here[new] - there[other]
            won[new] = CHANCE + (0.0 if abs(ahead) <= TIE else float(np.sign(ahead)) / 2)
            lost[other] = 1 - won[new]
    return _with_values(claim, won), _with_values(old, lost)


def _second(claim: Claim) -> dict[str, float] | None:
    """Item id -> score of the second arm; None where the record keeps none."""
    arms = list((claim.get("scores") or {}).values())
    return dict(zip(arms[1]["ids"], arms[1]["x"], strict=True)) if len(arms) == 2 else None


def _with_values(claim: Claim, values: Mapping[str, float]) -> Claim:
    ids = list(values)
    arms = {"nothing": [0.0] * len(ids), "wins": list(values.values())}
    spans = {"nothing": [0.0, 0.0], "wins": [0.0, 1.0]}
    return {
        **claim,
        "effect": float(np.mean(arms["wins"])) if ids else None,
        "values": {label: {"ids": ids, "x": x, "span": spans[label]} for label, x in arms.items()},
    }
