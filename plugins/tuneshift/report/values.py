"""Values as a reader meets them: numbers as text, model output made harmless, axes and histograms.

Standard library and markupsafe only; positions are percentages of a figure's width so that text never scales with it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jinja2 import Undefined
from markupsafe import Markup, escape

from ..plain import Json

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
TEXT_LIMIT = 2_500
"""Characters of a response that are shown; 300 tokens of English have about 1,500, the run record keeps the whole."""
TOKEN_LIMIT = 60
"""Characters of one token that are shown: the longest English tokens have about 30."""


def finite(value: Json) -> float | None:
    """The value as a float; None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimals(value: float, digits: int = 3) -> int:
    """Places after the point that show ``digits`` significant digits of the value; at least 0."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits - 1


def number(value: Json, places: int | None = None) -> str:
    """A number with three significant digits, or the given places, and a true minus sign; a dash for none."""
    x = finite(value)
    if x is None:
        return MISSING
    if places is None:
        if isinstance(value, int) or x == 0:
            places = 0
        elif not 1e-4 <= abs(x) < 1e6:
            mantissa, exponent = f"{x:.2e}".split("e")
            power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
            return f"{mantissa} × 10{power}".replace("-", MINUS)
        else:
            # Rounding may carry into a new digit (9.996 -> 10.0), so the places follow the rounded value.
            places = decimals(float(f"{x:.2e}"))
    text = f"{x:,.{places}f}"
    return text.lstrip("-") if not float(text.replace(",", "")) else text.replace("-", MINUS)


def estimate(effect: Json, interval: Json) -> str:
    """``effect [low, high]``, all to the places that the uncertainty or the effect, whichever is larger, calls for."""
    low, high = map(finite, interval) if isinstance(interval, list | tuple) and len(interval) == 2 else (None, None)
    center = finite(effect)
    sizes = [abs(center)] if center is not None else []
    if low is None or high is None:
        return number(effect if center is None else center)
    largest = max([*sizes, (high - low) / 2])
    places = min(decimals(largest), 8)
    return f"{number(center, places)} [{number(low, places)}, {number(high, places)}]"


def p_value(value: Json) -> str:
    """A p-value with two significant digits, ``< 0.0001`` below that."""
    x = finite(value)
    if x is None:
        return MISSING
    return "< 0.0001" if x < 1e-4 else f"{x:.{min(decimals(x, 2), 5) if x < 0.1 else 2}f}"


def plain(value: Json) -> str:
    """A declared constant as it was declared: up to six significant digits, no trailing zeros."""
    x = finite(value)
    return MISSING if x is None else f"{x:g}".replace("-", MINUS)


def percent(share: Json, places: int = 2) -> str:
    """A share as a percentage without needless zeros: 0.95 gives ``95 %``."""
    x = finite(share)
    return MISSING if x is None else f"{round(100 * x, places):g} %"


def moment(text: Json) -> str:
    """An ISO time as ``2026-11-21 07:05 UTC``; any other text as it is."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return MISSING if text is None or isinstance(text, Undefined) else str(text)
    zone = when.strftime("%Z").replace("UTC+00:00", "UTC")
    return f"{when:%Y-%m-%d %H:%M} {zone}".strip()


def visible(text: str, joiners: bool = True) -> str:
    """The text with control, direction, zero-width and surrogate characters spelled out as ``‹U+202E›``.

    ``joiners`` keeps U+200C and U+200D, which Persian and emoji need.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = {"\n", "\t"} | ({"\u200c", "\u200d"} if joiners else set())
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        f"‹U+{ord(c):04X}›" if c not in kept and unicodedata.category(c) in hidden else c
        for c in text.replace("\r\n", "\n")
    )


def cut(text: str, limit: int = TEXT_LIMIT) -> dict[str, Any]:
    """The text's beginning and the number of characters that are left out of the page."""
    return {"text": visible(text[:limit]), "more": max(0, len(text) - limit)}


def token_text(text: str) -> str:
    """A token's beginning with its white space and hidden characters made visible; one leading space is dropped."""
    text = visible(text[:TOKEN_LIMIT], joiners=False).replace("\n", "↵").replace("\t", "⇥")
    return text[1:] if text[:1] == " " and text.strip() else text.replace(" ", "␣") if not text.strip() else text


def linked(text: Json) -> Markup:
    """Text in which every arXiv id links to its abstract and `names` are set as code; the rest escaped."""
    parts = re.split(r"(arXiv:\d{4}\.\d{4,5}(?:v\d+)?|`[^`\n]{1,80}`)", visible(str(text)) if text else MISSING)
    link = Markup('<a href="https://arxiv.org/abs/{}" rel="noreferrer">{}</a>')
    return Markup("").join(
        escape(part)
        if k % 2 == 0
        else link.format(part.removeprefix("arXiv:"), part)
        if part.startswith("arXiv:")
        else Markup("<code>{}</code>").format(part[1:-1])
        for k, part in enumerate(parts)
    )


def unbroken(text: str, names: Iterable[str]) -> Markup:
    """Text in which short names do not break at their hyphens; escaped."""
    short = [re.escape(visible(name)) for name in names if isinstance(name, str) and 0 < len(name) <= 30]
    parts = re.split(f"({'|'.join(sorted(short, key=len, reverse=True))})", visible(text)) if short else [visible(text)]
    return Markup("").join(
        Markup('<span class="unbroken">{}</span>').format(part) if k % 2 else escape(part)
        for k, part in enumerate(parts)
    )


def shown(value: Any) -> Any:
    """What a template prints for any value: dashes for nothing, numbers formatted, text made visible."""
    if value is None or isinstance(value, Undefined):
        return MISSING
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)
