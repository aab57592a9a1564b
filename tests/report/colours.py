"""Colours of the style sheet and their contrast (WCAG 2.2)."""

from __future__ import annotations

import re

from tuneshift.resources import data_folder


def palettes() -> dict[str, dict[str, str]]:
    """The colours of both schemes as the style sheet sets them."""
    css = (data_folder("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    blocks = {name: re.search(rf"{{% set {name} %}}(.*?){{% endset %}}", css, re.S) for name in ("light", "dark")}
    return {name: dict(re.findall(r"--([\w]+):(#\w+)", block[1])) for name, block in blocks.items() if block}


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, 0..1 (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1..21 (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(one, other, share):
    """#rrggbb of two colours mixed in sRGB."""
    pairs = [(int(one[k : k + 2], 16), int(other[k : k + 2], 16)) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)
