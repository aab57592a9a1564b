"""Contrast in both schemes, of text, marks and figures."""

from __future__ import annotations

import colorsys
import itertools
import re

import pytest
from colours import contrast, mixed, palettes
from run_records import record

from tuneshift.report import figure_grid
from tuneshift.report.html import render_html
from tuneshift.resources import data_folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa_in_both_schemes(scheme: str) -> None:
    colours = palettes()[scheme]
    assert set(colours) == set(palettes()["light"])
    words = ("text", "muted", "dim", "accent", "reproduced", "contradicted", "inconclusive", "not_applicable")
    low = {w: contrast(colours[w], colours["bg"]) for w in words if contrast(colours[w], colours["bg"]) < 4.5}
    assert low == {}
    # The strongest colour of a strip lies under instruction, template and cut-off notes.
    for word in ("text", "dim"):
        assert contrast(colours[word], colours["heat"]) >= 4.5, word
    for mark in ("base", "tuned"):
        assert contrast(colours[mark], colours["bg"]) >= 3, mark
    hue = {v: colorsys.rgb_to_hls(*(int(colours[v][k : k + 2], 16) / 255 for k in (1, 3, 5)))[0] for v in words[4:7]}
    assert len({round(h, 1) for h in hue.values()}) == 3


def test_both_schemes_follow_the_system_and_the_reader() -> None:
    html = render_html(record([]))
    assert "@media (prefers-color-scheme: dark)" in html
    assert ':root[data-theme="dark"]' in html
    assert "@media print" in html
    used = set(re.findall(r"var\(--(\w+)", html)) - {"v", "k"}
    assert used <= set(palettes()["light"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read_in_both_schemes(scheme):
    colours = palettes()[scheme]
    full = {name: f"#{c[1:]}" if len(c) == 7 else "#" + "".join(2 * d for d in c[1:]) for name, c in colours.items()}
    lines = ("base", "tuned", *(f"line{k}" for k in range(3, 9)))
    assert {n: contrast(full[n], full["bg"]) for n in lines if contrast(full[n], full["bg"]) < 3} == {}
    # Words on chips, and the note of a cut list on the page.
    assert contrast(full["text"], full["band"]) >= 4.5
    css = (data_folder("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    assert "color-mix(in srgb, var(--gain) {{ 4 + 16 * k }}%, var(--still))" in css
    for name in ("gain", "loss"):
        ladder = [mixed(full[name], full["still"], (4 + 16 * k) / 100) for k in range(1, figure_grid.STEPS + 1)]
        against = [contrast(c, full["still"]) for c in ladder]
        # Each step is farther from zero than the one before; the last is a mark that can be seen on the page.
        assert all(b > a for a, b in itertools.pairwise([1.0, *against]))
        assert contrast(ladder[-1], full["bg"]) >= 3
        # The dash that says "below zero" without colour.
        dashes = [contrast(c, full["text" if k <= 3 else "bg"]) for k, c in enumerate(ladder, start=1)]
        assert min(dashes) >= 2.5
    parts = [int(full["still"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    assert colorsys.rgb_to_hsv(*parts)[1] < 0.25, "zero is neutral"
    for sign in (-1, 1):
        assert contrast("#" + bytes(figure_grid.PICTURE[sign]).hex(), full["bg"]) >= 3
