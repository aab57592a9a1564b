"""JSON and TOML that others wrote, and names in it: read within limits, or refused in one sentence."""

from __future__ import annotations

import json
import math
import tomllib
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .errors import UsageError

Json = Any
DEEPEST = 100
"""Levels of lists and objects within each other. What is read is walked recursively, and Python stops at 1,000."""
DIGITS = 300
"""Digits of a whole number: more do not fit a float (1e308), and thousands cost quadratic time."""
LONGEST_NAME = 200
"""Characters of an id, a group or a set's name: names stand in tables, test ids and file names (255 bytes)."""
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class MalformedError(UsageError):
    """Text that is no JSON or TOML, or is beyond the limits here. The message is a clause: ``not JSON: ...``."""


def parse_json(text: str | bytes, *, constant: Callable[[str], Json] | None = None) -> Json:
    """The value of a JSON text. ``constant`` takes NaN, Infinity and -Infinity; without it they are refused.

    Raises MalformedError, which is a ValueError, for text that is not UTF-8 or not JSON, a key given twice in one
    object, numbers beyond 300 digits or 1e308, and nesting deeper than 100 levels.
    """
    try:
        value = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            parse_constant=constant or _refused,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_object,
        )
    except MalformedError:
        raise
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
        raise MalformedError(f"not JSON: {error.msg} at {line}column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"not JSON: byte {error.start} is not UTF-8 ({error.reason})") from error
    except RecursionError:
        raise MalformedError(f"nested deeper than {DEEPEST} levels") from None
    _require_shallow(value)
    return value


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """The tables of a TOML text. Raises MalformedError as `parse_json` does; TOML itself allows nan and inf."""
    try:
        value = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(f"not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"not TOML: byte {error.start} is not UTF-8 ({error.reason})") from error
    except RecursionError:
        raise MalformedError(f"nested deeper than {DEEPEST} levels") from None
    except ValueError as error:  # int() of more digits than Python converts
        raise MalformedError(f"a whole number of more than {DIGITS} digits") from error
    for level in _require_shallow(value):
        for node in level:
            for inner in node.values() if isinstance(node, dict) else node:
                if isinstance(inner, int) and abs(inner) >= 10**DIGITS:
                    raise MalformedError(f"a whole number of more than {DIGITS} digits")
    return value


def fault_of_name(name: str) -> str | None:
    """Why a text cannot name something that terminals, CI logs and file systems show; None where it can.

    Control characters (escape sequences, line ends, which start commands of CI services), line and paragraph
    separators, marks that turn the direction of text, halves of surrogate pairs, and more than 200 characters.
    """
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} characters; {LONGEST_NAME} at most are accepted"
    for place, character in enumerate(name):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") or character in _DIRECTIONS:
            return f"holds the control character U+{ord(character):04X} at {place}; names are printed, so take it out"
    return None


def shown_name(name: str) -> str:
    """A name for a message: quoted, control characters spelled out, cut after 60 characters."""
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}..."


def one_line(text: str, longest: int = 300) -> str:
    """Foreign text for one line of a terminal or a CI log: white space as one space, control characters spelled out."""
    line = " ".join(text.split())
    cut = line if len(line) <= longest else f"{line[:longest]}..."
    hidden = ("Cc", "Cs", "Zl", "Zp")
    return "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c) in hidden or c in _DIRECTIONS else c for c in cut)


def _object(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedError(f"the key {shown_name(twice)} is given twice in one object; keep one of them")
    return found


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise MalformedError(f"a whole number of more than {DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise MalformedError(f"the number {shown_name(text)} is beyond 1.8e308")
    return value


def _refused(constant: str) -> NoReturn:
    raise MalformedError(f"{constant} is not JSON; write null where there is no number")


def _require_shallow(value: Json) -> list[list[Json]]:
    """The value's lists and objects level by level. Raises MalformedError where there are more than 100 levels."""
    levels = []
    level = [value] if isinstance(value, dict | list) else []
    while level:
        levels.append(level)
        if len(levels) > DEEPEST:
            raise MalformedError(f"nested deeper than {DEEPEST} levels")
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
    return levels
