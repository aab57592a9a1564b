"""Which items a claim lost most on, against a baseline: what to read first where a gate is red."""

from __future__ import annotations

from collections.abc import Mapping

from ..plain import Json

NAMED = 5
"""Items that are named."""


def fallen(claim: Mapping[str, Json], old: Mapping[str, Json]) -> list[str]:
    """Ids of the items whose value moved most against the claim since the baseline, the worst first; none where no
    item did. The value is second less first arm where both have the same items, else the arm's own; items of both runs
    by id."""
    now, then = _by_item(claim), _by_item(old)
    moves = {i: now[i] - then[i] for i in now if i in then}
    if claim["direction"] != "greater":
        moves = {i: -(move if claim["direction"] == "less" else abs(move)) for i, move in moves.items()}
    return [i for i in sorted(moves, key=lambda i: (moves[i], i)) if moves[i] < 0][:NAMED]


def _by_item(claim: Mapping[str, Json]) -> dict[str, float]:
    arms = [dict(zip(arm["ids"], arm["x"], strict=True)) for arm in (claim.get("values") or {}).values()]
    if len(arms) == 2 and arms[0].keys() == arms[1].keys():
        return {i: arms[1][i] - x for i, x in arms[0].items()}
    return {i: x for arm in arms for i, x in arm.items()}
