"""How a pair file says what its chat format sees: the day, the template's variables, the tags of thoughts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from ..config import ConfigPlace
from ..plain import Json
from .chat import NO_TEMPLATE, RESERVED


def chat_day(value: Any, place: ConfigPlace) -> date | None:
    """``chat_date``: a TOML date or its text; None where there is none. Raises PairError."""
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        place.fail(f"a day is wanted, as 2024-07-26, got {value!r}")


def chat_variables(value: Any, place: ConfigPlace) -> Mapping[str, Json]:
    """``chat_template_kwargs``: plain values by names that are not rendering's own. Raises PairError."""
    place.typed(value, dict)
    for name, given in value.items():
        if name in RESERVED:
            place.fail(
                f"{name!r} is rendering's own; set variables that the template names itself, as enable_thinking"
                f"{' (the day is `chat_date`)' if name in ('strftime_now', 'date_string') else ''}"
            )
        _plain_variable(given, place.at(name))
    return dict(value)


def _plain_variable(value: Any, place: ConfigPlace) -> None:
    """Fails for what has no form in JSON: TOML's dates and times, and numbers that are not finite."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _plain_variable(inner, place.at(name))
    elif isinstance(value, list):
        for inner in value:
            _plain_variable(inner, place)
    elif not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        place.fail(f"a string, number, boolean, list or table is wanted, got {value!r}")


def thinking_tags(value: Any, place: ConfigPlace) -> tuple[str, ...] | None:
    """``thinking``: two tags, none for ``"none"``; None where there is no such key. Raises PairError."""
    if value is None:
        return None
    if value == NO_TEMPLATE:
        return ()
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(tag, str) and tag for tag in value)):
        place.fail(
            f"two strings are wanted, which begin and end thoughts, as ['<think>', '</think>'], or {NO_TEMPLATE!r}; "
            f"got {value!r}"
        )
    return tuple(value)
