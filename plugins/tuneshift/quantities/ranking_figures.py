"""Figures of response ranking."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..claims.view import Figure, NotApplicable, View
from ..plain import Json
from ..statistics.statistic import Statistic
from .ranking import CHANCE, SCORES, likelihood_items, margins, ranked

if TYPE_CHECKING:
    from .ranking import Floats
PERCENTS = tuple(range(0, 101, 5))


def ranking_figure(*roles: str) -> Figure:
    """Share of wins by each score, a point per role with its interval, against chance."""

    def figure(view: View) -> dict[str, Json] | None:
        fresh = replace(view, excluded=view.excluded.copy())
        try:
            found = {score: [ranked(role, score)(fresh) for role in roles] for score in SCORES}
        except NotApplicable:
            return None
        rows = [
            {"label": score, "group": "", "points": [_point(*row) for row in zip(roles, statistics, strict=True)]}
            for score, statistics in found.items()
        ]
        return {
            "kind": "dots",
            "title": "Own response against others'",
            "caption": "Share of comparisons that an instruction's own response wins; mean and interval over prompts. "
            "mean: by log p(response | instruction) per token, as the paper's release. sum: by its sum over tokens, "
            "which is the short response's game. pmi: the sum less log p(response). swap: its own instruction against "
            "other instructions. pmi and swap take out what a response brings along.",
            "unit": "share of wins",
            "reference": CHANCE,
            "rows": rows,
        }

    return figure


def margin_figure(*roles: str) -> Figure:
    """How far own responses are ahead, over all comparisons: percentiles of the margins, a line per role and score."""

    def figure(view: View) -> dict[str, Json] | None:
        fresh = replace(view, excluded=view.excluded.copy())
        series = []
        try:
            for role in roles:
                items = likelihood_items(fresh, role).values()
                series += [_percentiles(f"{role}, {s}", [margins(item, s) for item in items]) for s in SCORES]
        except NotApplicable:
            return None
        return {
            "kind": "curves",
            "title": "How far own responses are ahead",
            "caption": "All comparisons of all prompts, ordered from the one lost by most to the one won by most. A "
            "line that crosses zero at 20 % wins 80 % of them. mean is in nats per token, the others are in nats.",
            "x_name": "comparisons, %",
            "unit": "nats",
            "x": list(PERCENTS),
            "series": series,
        }

    return figure


def _point(role: str, statistic: Statistic) -> dict[str, Json]:
    low, high = (CHANCE + x if math.isfinite(x) else None for x in statistic.interval)
    value = CHANCE + statistic.effect if statistic.n else None
    return {"label": role, "value": value, "low": low, "high": high, "n": statistic.n}


def _percentiles(label: str, ahead: list[Floats]) -> dict[str, Json]:
    values = np.concatenate(ahead) if ahead else np.zeros(0)
    values = values[~np.isnan(values)]
    found: list[Json] = np.percentile(values, PERCENTS).tolist() if len(values) else [None] * len(PERCENTS)
    return {"label": label, "values": found, "low": None, "high": None}
