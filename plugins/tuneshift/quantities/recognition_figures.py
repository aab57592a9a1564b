"""Figures of instruction recognition."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from ..claims.view import Figure, Score, View
from ..plain import Json
from ..statistics.statistic import Statistic
from .recognition import kept_tokens, longest_response, paired

KEPT = (16, 32, 64, 100, 200, 300)
"""Response tokens at which the curve has a point, up to the longest response, which has one too."""


def kept_tokens_figure(score: Score, *, undefined: str) -> Figure:
    """The paired effect of a score by how many response tokens are kept, with its interval: what longer responses do.

    Responses that are shorter stay as they are, so at the right end the curve is the effect itself. None where some
    tokens of a response are attributed alone, so that it cannot be cut.
    """

    def figure(view: View) -> dict[str, Json] | None:
        roles = ("base", "tuned")
        read = [list(view.attributions(role).values()) for role in roles]
        if any(attribution.thinned_from for side in read for attribution in side):
            return None
        longest = max(map(longest_response, read))
        apart = replace(view, excluded=Counter())
        places = [*(count for count in KEPT if count < longest), longest]
        found = [paired(score, undefined=undefined, cut=kept_tokens(count))(apart) for count in places]
        if not longest or not found[-1].n:
            return None
        return {
            "kind": "curves",
            "title": "Effect by response tokens kept",
            "caption": "The same effect with both models' responses cut after so many tokens; interval over prompts. "
            f"Shorter responses stay whole; the longest has {longest} tokens, so the right end is the effect itself.",
            "x_name": "response tokens",
            "unit": "effect",
            "x": places,
            "series": [{"label": "tuned minus base", **_line(found)}],
        }

    return figure


def _line(found: list[Statistic]) -> dict[str, Json]:
    low, high = zip(*(statistic.interval for statistic in found), strict=True)
    known = {"values": [statistic.effect for statistic in found], "low": low, "high": high}
    return {name: [x if math.isfinite(x) else None for x in values] for name, values in known.items()}
