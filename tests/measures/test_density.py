"""Levels and density of importance: theorems and naive definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tuneshift.measures.attribution.density import density, importance_levels, sparse_levels


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


def test_levels_within_a_scope_are_those_of_its_tokens_alone_and_zero_outside():
    importance = np.abs(np.random.default_rng(2).normal(size=(6, 4)))
    scope = np.array([False, True, True, False, True, False])
    found = importance_levels(importance, scope=scope)
    assert np.array_equal(found[scope], importance_levels(importance[scope]))
    assert found[~scope].sum() == 0
    assert found.max(axis=0).tolist() == [10] * 4


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
