"""Scores of importance: theorems, bounds and naive definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tuneshift.measures.attribution.density import Attribution, density, importance_levels, sparse_levels
from tuneshift.quantities.recognition import (
    instruction_score,
    instruction_share,
    instruction_share_slope,
    mean_instruction_share,
    middle_density_share,
    prompt_profile,
)


def attribution(levels: np.ndarray, instruction: list[int], *, scope: np.ndarray | None = None) -> Attribution:
    n = len(levels)
    mask = np.zeros(n, dtype=bool)
    mask[instruction] = True
    every = np.ones(n, dtype=bool)
    return Attribution(
        id="x", levels=levels.astype(np.uint8), instruction=mask, user=every, scope=every if scope is None else scope
    )


def test_levels_follow_the_formula_cell_by_cell():
    importance = np.random.default_rng(0).normal(size=(7, 5))
    expected = np.zeros((7, 5))
    for m in range(5):
        positive = [max(x, 0.0) for x in importance[:, m]]
        for n in range(7):
            expected[n, m] = int(np.ceil(10 * positive[n] / max(positive)))
    assert np.array_equal(importance_levels(importance), expected)


def test_levels_do_not_depend_on_the_response_tokens_probability():
    importance = np.abs(np.random.default_rng(1).normal(size=(6, 4)))
    scaled = importance * np.array([1e-12, 1e-3, 1.0, 1e3])
    assert np.array_equal(importance_levels(importance), importance_levels(scaled))


def test_the_releases_epsilon_decides_where_the_token_was_unlikely():
    importance = np.array([[1e-9], [5e-10]])
    assert importance_levels(importance).tolist() == [[10], [5]]
    assert importance_levels(importance, release_epsilon=True).tolist() == [[1], [1]]


def test_a_tenth_is_not_rounded_up_to_the_next_level():
    importance = np.array([[0.7], [1.0], [0.1 + 0.2]])
    assert importance_levels(importance).ravel().tolist() == [7, 10, 3]


def test_no_positive_importance_gives_no_levels():
    assert importance_levels(-np.ones((3, 2))).sum() == 0
    assert importance_levels(np.zeros((3, 0))).shape == (3, 0)


def test_nan_importance_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        importance_levels(np.array([[np.nan], [1.0]]))


def test_sparse_levels_drop_seven_and_keep_eight():
    assert sparse_levels(np.array([[7, 8, 10]], dtype=np.uint8)).tolist() == [[0.0, 8.0, 10.0]]


@pytest.mark.numerics
def test_density_is_the_ratio_of_norms_over_its_maximum():
    levels = np.array([[10, 10, 10, 10], [10, 0, 0, 0], [7, 7, 7, 7]], dtype=np.uint8)
    full = 40 / (4 * 10**4) ** 0.25
    assert density(levels) == pytest.approx([1.0, 1.0 / full, 0.0])


@pytest.mark.numerics
def test_density_within_a_scope_ignores_what_lies_outside():
    levels = np.array([[10, 10, 10, 10], [10, 0, 0, 0]], dtype=np.uint8)
    assert density(levels, scope=np.array([False, True])) == pytest.approx([0.0, 1.0])


@pytest.mark.numerics
def test_score_of_fully_dense_instruction_is_its_length_over_the_log():
    levels = np.full((4, 6), 10)
    assert instruction_score(attribution(levels, [0, 1, 2])) == pytest.approx(3 / np.log2(5))


def test_score_of_an_empty_response_is_zero_and_without_instruction_undefined():
    assert instruction_score(attribution(np.zeros((4, 0)), [0])) == 0.0
    assert instruction_score(attribution(np.full((4, 3), 10), [])) is None


@pytest.mark.numerics
def test_share_counts_what_the_instruction_holds_in_each_fifth():
    levels = np.zeros((2, 10))
    levels[0, :6] = 10  # the instruction holds everything at first
    levels[1, 6:] = 10  # and the context the rest
    shares = instruction_share(attribution(levels, [0]))
    assert shares == pytest.approx([1, 1, 1, 0, 0])
    assert mean_instruction_share(attribution(levels, [0])) == pytest.approx(0.6)
    assert instruction_share_slope(attribution(levels, [0])) == pytest.approx(-0.3)


def test_share_is_undefined_without_context_or_with_a_short_response():
    assert instruction_share(attribution(np.full((2, 10), 10), [0, 1])) is None
    assert instruction_share(attribution(np.full((2, 4), 10), [0])) is None
    assert instruction_share(attribution(np.zeros((2, 10)), [0])) is None


@pytest.mark.numerics
def test_share_ignores_tokens_outside_the_scope():
    levels = np.full((3, 5), 10)
    inside = attribution(levels, [0], scope=np.array([True, True, False]))
    assert mean_instruction_share(inside) == pytest.approx(0.5)


@pytest.mark.numerics
def test_middle_share_is_half_where_every_token_is_as_dense():
    assert middle_density_share(attribution(np.full((40, 3), 10), [0])) == pytest.approx(0.5)


@pytest.mark.numerics
def test_middle_share_of_an_empty_middle_is_zero_and_of_empty_ends_one():
    middle = np.zeros((50, 3))
    middle[10:40] = 10
    assert middle_density_share(attribution(middle, [0])) == pytest.approx(1.0)
    assert middle_density_share(attribution(10 - middle, [0])) == pytest.approx(0.0)


@pytest.mark.numerics
def test_middle_share_is_the_ratio_in_bounded_form():
    levels = np.random.default_rng(3).integers(0, 11, size=(35, 8))
    profile = prompt_profile(attribution(levels, [0]))
    ratio = profile[1:4].mean() / profile[[0, 4]].mean()
    assert middle_density_share(attribution(levels, [0])) == pytest.approx(ratio / (1 + ratio))


def test_short_prompts_have_no_middle():
    assert prompt_profile(attribution(np.full((29, 3), 10), [0])) is None
    assert middle_density_share(attribution(np.zeros((30, 3)), [0])) is None
