"""Values as a reader meets them: numbers as text, model output made harmless, axes and histograms.

Standard library and markupsafe only; positions are percentages of a figure's width so that text never scales with it.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Undefined
from markupsafe import Markup, escape

from .records import Json

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
TEXT_LIMIT = 2_500
"""Characters of a response that are shown; 300 tokens of English have about 1,500, the run record keeps the whole."""
TOKEN_LIMIT = 60
"""Characters of one token that are shown: the longest English tokens have about 30."""


# Numbers as text


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


# Hostile text


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


# Geometry


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from [low, high] to percent of the figure's width, with round tick values."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Position of a value in percent, with a margin of 2 on either side; values beyond the ends stay there."""
        share = (value - self.low) / (self.high - self.low)
        return round(2 + 96 * min(max(share, 0.0), 1.0), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the multiples of ``step`` on the scale."""
        places = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [(self.at(k * self.step), number(k * self.step, places if k else 0)) for k in range(first, last + 1)]


def round_step(span: float, parts: int) -> float:
    """The largest of 1, 2 or 5 times a power of ten that divides the span into at least ``parts`` steps."""
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (5.0, 2.0, 1.0) if m * power <= raw * (1 + 1e-9))


def axis(values: Iterable[Json], parts: int = 3) -> Axis:
    """A scale over the finite values; one unit wide around a single value, [0, 1] without any."""
    known = [x for x in map(finite, values) if x is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    return Axis(low=low, high=high, step=round_step(high - low, parts))


def histogram(values: Sequence[float], scale: Axis, bins: float) -> dict[str, Any]:
    """A histogram with edges at multiples of ``bins``, 0 among them, as one SVG path in a 100 by 100 box."""
    counts = Counter(math.floor(x / bins + 1e-9) for x in values)
    peak = max(counts.values(), default=1)
    path = "".join(_run_path(counts, run, scale, bins, peak) for run in _neighbours(sorted(counts)))
    return {"path": path, "peak": peak, "rug": [scale.at(x) for x in values] if len(values) <= 40 else []}


def _neighbours(bars: Sequence[int]) -> list[list[int]]:
    """Numbers of bars gathered where they touch, so that one outline holds them."""
    runs: list[list[int]] = []
    for k in bars:
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs


def _run_path(counts: Counter[int], run: Sequence[int], scale: Axis, bins: float, peak: int) -> str:
    steps = (f"V{100 - 100 * counts[k] / peak:.1f}H{round(scale.at((k + 1) * bins), 1):g}" for k in run)
    return f"M{round(scale.at(run[0] * bins), 1):g} 100{''.join(steps)}V100z"


def padded(scale: Axis, bins: float) -> Axis:
    """The scale widened to whole bins, so that the outermost bars are as wide as the others."""
    low, high = math.floor(scale.low / bins + 1e-9) * bins, (math.floor(scale.high / bins + 1e-9) + 1) * bins
    return Axis(low=low, high=high, step=scale.step)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile (linear interpolation); one value three times."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third
