"""``--shift-dtype``: half precision works, is another key, and says what it cost."""

from __future__ import annotations


def test_half_precision_records_its_cost_against_float32(suites, record):
    suites("-k", "density_rises", "--shift-dtype", "bfloat16")
    cost = record()["claims"][0]["details"]["precision_cost"]
    assert set(cost) == {"base", "tuned"}
    for role in cost.values():
        assert role["prompts"] == 3
        assert 0 < role["relative_error"] < 1
        assert 0 <= role["levels_moved"] < 1


def test_float32_has_nothing_to_say_about_it(suites, record):
    suites("-k", "density_rises")
    assert "precision_cost" not in record()["claims"][0]["details"]


def test_dtypes_do_not_share_evidence(suites):
    suites("-k", "density_rises")
    result = suites("-k", "density_rises", "--shift-dtype", "float64", "--shift-plan")
    result.stdout.fnmatch_lines(["120 of 120 items to measure*"])
