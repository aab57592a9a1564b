"""Values of a figure as they come, malformed ones among them, and as text that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..plain import Json
from .values import finite, plain

View = dict[str, Any]
LABEL_LIMIT = 80
NARROW = 300
"""Pixels of a plot on a phone: labels that fit there fit everywhere."""


def described(value: Json) -> str:
    """A value's JSON type, for messages."""
    names = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "a list")


def label(value: Json, limit: int = LABEL_LIMIT) -> str:
    """A text or number as text, cut to the limit; nothing for null. Raises ValueError for anything else."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a label is {described(value)}; a text is needed")
    text = value if isinstance(value, str) else plain(value) if isinstance(value, float) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(held: Mapping[str, Json], name: str, length: int | None = None) -> list[Json]:
    """The list of that name. Raises ValueError where it is none or has another length."""
    found = held.get(name)
    if not isinstance(found, list | tuple):
        raise ValueError(f"{name} is {described(found)}; a list is needed")
    if length is not None and len(found) != length:
        raise ValueError(f"{name} has {len(found)} entries, not {length}")
    return list(found)


def real(value: Json) -> int | float | None:
    """A finite number as it is, None for null, NaN and infinities. Raises ValueError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"a value is {described(value)}; a number or null is needed")
    return None if value is None or finite(value) is None else value


def matrix(held: Mapping[str, Json], name: str, rows: int, columns: int) -> list[list[Json]]:
    """The list of lists of that name. Raises ValueError where its shape is another."""
    lines = listed(held, name, rows)
    for place, line in enumerate(lines):
        if not isinstance(line, list | tuple) or len(line) != columns:
            got = f"has {len(line)} values" if isinstance(line, list | tuple) else f"is {described(line)}"
            raise ValueError(f"entry {place} of {name} {got}; a list of {columns} is needed")
    return [list(line) for line in lines]


def pixels(value: float) -> str:
    """A position for an attribute: a bare float would be printed for readers, with three digits and separators."""
    return f"{value:.1f}"
