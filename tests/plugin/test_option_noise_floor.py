"""``--shift-noise-floor``: everything is measured twice, and the record says how far each effect moved."""

from __future__ import annotations

import pytest


def test_the_plan_lists_the_second_measurements(suites, tmp_path):
    result = suites("--shift-plan", "--shift-noise-floor", store=tmp_path / "empty")
    result.stdout.fnmatch_lines(
        [
            "  *tiny-base: generation, tiny, 0/20 stored, *",
            "  *tiny-base: generation, tiny, 0/20 stored, *, again in bfloat16",
            "  *tiny-tuned: attribution to reference response, tiny, 0/20 stored, *, again in bfloat16",
            "240 of 240 items to measure*",
        ]
    )


@pytest.mark.numerics
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)], ids=["one process", "two workers"]
)
def test_the_floor_is_the_distance_to_the_second_effect(suites, record, workers):
    suites("-k", "density_rises", "--shift-noise-floor", *workers)
    claim = record()["claims"][0]
    noise = claim["noise_floor"]
    assert noise["settings"] == "bfloat16 instead of float32, batches of half the size"
    assert noise["floor"] == pytest.approx(abs(noise["effect"] - claim["effect"]))
    assert noise["floor"] > 0
    suites("-k", "density_rises", "--shift-noise-floor", "--shift-plan").stdout.fnmatch_lines(
        ["0 of 240 items to measure*"]
    )


def test_without_the_option_nothing_is_measured_twice_and_nothing_said(suites, record):
    suites("-k", "density_rises")
    assert record()["claims"][0]["noise_floor"] is None
    suites("-k", "density_rises", "--shift-plan").stdout.fnmatch_lines(["*of 120 items to measure*"])


def test_weights_are_read_in_another_dtype(suites, record):
    suites("-k", "rotates_knowledge", "--shift-noise-floor", suite="test_ffn_rotation.py")
    claim = record()["claims"][0]
    assert claim["noise_floor"]["settings"] == "bfloat16 instead of float32"
