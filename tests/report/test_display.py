"""Values as a reader meets them: numbers, axes, histograms, text made visible."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tuneshift.report import axes
from tuneshift.report import values as display


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94, "0.940"),
        (1.1305, "1.13"),
        (9.996, "10.0"),
        (-0.05, "−0.0500"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1234.5, "1,234"),
        (252, "252"),
        (6_738_415_616, "6,738,415,616"),
        (2.1e-5, "2.10 × 10⁻⁵"),
        (-3e9, "−3.00 × 10⁹"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (None, "–"),
        ("12", "–"),
        (True, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value: Any, text: str) -> None:
    assert display.number(value) == text


@pytest.mark.parametrize(
    ("effect", "interval", "text"),
    [
        (0.1904, [0.0812, 0.2998], "0.190 [0.081, 0.300]"),
        (-0.1074, [-0.1829, -0.0320], "−0.107 [−0.183, −0.032]"),
        (-0.0001, [-0.1, 0.1002], "0.000 [−0.100, 0.100]"),
        (0.3, None, "0.300"),
        (0.3, [None, None], "0.300"),
        (None, None, "–"),
        (float("nan"), [float("nan"), 1.0], "–"),
    ],
)
def test_estimates_share_the_places_of_effect_and_bounds(effect: Any, interval: Any, text: str) -> None:
    assert display.estimate(effect, interval) == text


def test_p_values_and_shares() -> None:
    assert [display.p_value(p) for p in (0.5, 0.0332, 2.1e-5, None)] == ["0.50", "0.033", "< 0.0001", "–"]
    assert [display.percent(x) for x in (0.95, 0.9875, None)] == ["95 %", "98.75 %", "–"]
    assert [display.plain(x) for x in (0.05, -0.125, 2, None)] == ["0.05", "−0.125", "2", "–"]


@pytest.mark.parametrize("reach", [(0.0, 1.0), (-0.183, 0.02), (1e-9, 3e-9), (-5e7, 2.0), (4.0, 4.0), (0.0, 0.0)])
def test_axes_hold_their_values_and_label_round_ones(reach: tuple[float, float]) -> None:
    scale = axes.axis(reach)
    assert scale.at(scale.low) == 2
    assert scale.at(scale.high) == 98
    assert all(2 <= scale.at(x) <= 98 for x in reach)
    assert 1 <= len(scale.ticks) <= 12
    assert len({label for _, label in scale.ticks}) == len(scale.ticks)


def test_a_histogram_counts_every_value_once_and_has_an_edge_at_zero() -> None:
    values = [-0.31, -0.3, -0.05, 0.0, 0.05, 0.1, 0.1, 0.29]
    scale = axes.padded(axes.axis(values), 0.1)
    bars = axes.histogram(values, scale, 0.1)
    # Heights by hand: bins from -0.4 hold 1, 1, 0, 1, 2, 2, 1 values.
    assert bars["peak"] == 2
    heights = [100 - float(y) for y in re.findall(r"V([\d.]+)H", bars["path"])]
    assert heights == [50, 50, 50, 100, 100, 50]
    # Bars that touch share an outline; the empty bin between -0.2 and -0.1 ends the first.
    assert [len(run.split("V")) - 2 for run in bars["path"].split("M")[1:]] == [2, 4]
    assert f"H{scale.at(0.0):.1f}V" in bars["path"]


def test_joiners_stay_in_text_but_show_in_tokens() -> None:
    family = "\U0001f468\u200d\U0001f469"
    assert display.visible(family) == family
    assert "‹U+200D›" in display.token_text(family)
