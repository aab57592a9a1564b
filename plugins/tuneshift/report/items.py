"""Per-item values as the page holds them: whole in one block of JSON for the script, their extremes as a table.

A table row of HTML takes ten times the space of its numbers, and claims of one pair share their prompts and often an
arm: lists of ids and columns of numbers that are equal are kept once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ..plain import Json
from .values import visible

View = dict[str, Any]

WHOLE = 12
"""Items up to which the table in the page is whole."""
ENDS = 3
"""Items at either end that the table of a longer list shows."""
ID_LIMIT = 120
"""Characters of an item's id that are shown."""


class ValueColumns:
    """The values of a page's claims, gathered while its claims are laid out."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], int] = {}
        self._columns: dict[tuple[float | int, ...], int] = {}
        self._claims: dict[str, View] = {}

    def add(self, claim: View) -> None:
        """Keep the values of a claim view that has any, under its anchor."""
        arms = [
            [
                visible(str(arm.get("label") or "")),
                _place(self._ids, tuple(shown_id(i) for i in arm["by_id"])),
                _place(self._columns, tuple(four_digits(x) for x in arm["by_id"].values())),
            ]
            for arm in claim["arms"]
            if arm["by_id"]
        ]
        if arms:
            name = visible(str(claim.get("title") or claim.get("finding")))
            place = [visible(str(claim.get(part) or "")) for part in ("pair", "where")]
            self._claims[claim["anchor"]] = {"name": name, "place": place, "one": claim["one"], "arms": arms}

    def block(self) -> Markup:
        """The values as JSON that can stand inside a script element: ids, columns, and the claims that use them."""
        held = {"ids": list(self._ids), "x": list(self._columns), "claims": self._claims}
        text = json.dumps(held, ensure_ascii=False, separators=(",", ":"))
        # Nothing in a data block may look like markup, whatever an id holds.
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _place(known: dict[tuple[Any, ...], int], found: tuple[Any, ...]) -> int:
    return known.setdefault(found, len(known))


def shown_id(item: str) -> str:
    """An item's id as it is shown: visible and cut."""
    return visible(item if len(item) <= ID_LIMIT else item[: ID_LIMIT - 1] + "…")


def four_digits(value: float) -> float | int:
    """The value to four significant digits, one more than tables show; whole numbers as such."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def extremes(arms: Sequence[View], paired: bool) -> list[View]:
    """Rows ``{id, values, difference}``, smallest first: all of a short list, else the ends of a long one.

    They are ordered by the paired difference, or by the value where arms do not share their items.
    """
    ids = list(dict.fromkeys(i for arm in arms for i in arm["by_id"]))
    rows = [
        {
            "id": shown_id(i),
            "values": [arm["by_id"].get(i) for arm in arms],
            "difference": arms[1]["by_id"][i] - arms[0]["by_id"][i] if paired else None,
        }
        for i in ids
    ]
    rows.sort(key=_rank)
    return rows if len(rows) <= WHOLE else [*rows[:ENDS], *rows[-ENDS:]]


def _rank(row: View) -> float:
    first: Json = row["difference"]
    return float(first if first is not None else next(x for x in row["values"] if x is not None))
