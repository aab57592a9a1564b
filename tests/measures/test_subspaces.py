"""Theorems of principal angles, overlap and direct match; chance levels against simulation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from tolerances import rounding

from tuneshift.measures.subspaces import (
    adjusted,
    best_assignment,
    chance_angle,
    chance_match,
    chance_overlap,
    direct_match,
    matched_angles,
    principal_angles,
    principal_cosines,
    subspace_overlap,
    unit_rows,
)

pytestmark = pytest.mark.numerics

EXACT = rounding(10_000, torch.float64)
"""Cosines of directions, by products and singular values of at most 10,000 terms. An angle near 0 that is read from
its cosine is off by the root of that."""


def frame(k, d, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, k)))
    return q.T


def turned(a, b, angles):
    """Rows of ``a`` turned towards the rows of ``b``, which are orthogonal to all of them."""
    return np.cos(angles)[:, None] * a + np.sin(angles)[:, None] * b


def test_the_same_directions_overlap_and_match_whatever_their_order_and_sign():
    a = frame(5, 20)
    shuffled = -a[[3, 1, 4, 0, 2]]
    for b in (a, shuffled):
        assert subspace_overlap(a, b) == pytest.approx(1, abs=EXACT)
        assert direct_match(a, b) == pytest.approx(1, abs=EXACT)
        np.testing.assert_allclose(principal_angles(a, b), 0, atol=EXACT)
        np.testing.assert_allclose(matched_angles(a, b), 0, atol=EXACT**0.5)
    assert best_assignment(a, shuffled).tolist() == [3, 1, 4, 0, 2]


def test_orthogonal_directions_neither_overlap_nor_match():
    whole = frame(10, 20)
    a, b = whole[:5], whole[5:]
    assert subspace_overlap(a, b) == pytest.approx(0, abs=EXACT)
    assert direct_match(a, b) == pytest.approx(0, abs=EXACT)
    np.testing.assert_allclose(np.degrees(principal_angles(a, b)), 90)
    np.testing.assert_allclose(np.degrees(matched_angles(a, b)), 90)


def test_angles_are_symmetric_bounded_and_rising():
    for seed in range(10):
        a, b = frame(6, 15, seed), frame(6, 15, seed + 100)
        angles = principal_angles(a, b)
        np.testing.assert_allclose(angles, principal_angles(b, a), atol=EXACT)
        assert (np.diff(angles) >= 0).all()
        assert angles[0] >= 0
        assert angles[-1] <= np.pi / 2
        np.testing.assert_allclose(np.cos(angles), principal_cosines(a, b), atol=EXACT)
        assert direct_match(a, b) == pytest.approx(direct_match(b, a))
        assert 0 <= direct_match(a, b) <= subspace_overlap(a, b) <= 1
        assert subspace_overlap(a, b) == pytest.approx(np.mean(principal_cosines(a, b) ** 2))


def test_overlap_and_angles_do_not_see_a_rotation_of_either_basis():
    a, b, q, r = frame(6, 15, 0), frame(6, 15, 1), frame(6, 6, 2), frame(6, 6, 3)
    assert subspace_overlap(q @ a, r @ b) == pytest.approx(subspace_overlap(a, b))
    np.testing.assert_allclose(principal_angles(q @ a, r @ b), principal_angles(a, b), atol=EXACT)
    # The direct match does: that is what it is for.
    assert direct_match(q @ a, a) < 0.9


def test_angles_are_scipys():
    a, b = frame(4, 12, 5), frame(4, 12, 6)
    np.testing.assert_allclose(principal_angles(a, b), np.sort(subspace_angles(a.T, b.T)), atol=EXACT)


@pytest.mark.parametrize("angle", [1e-8, 1e-6, 1e-3, 0.3, 0.78, 0.8, 1.5])
def test_planted_angles_are_recovered_however_small(angle):
    whole = frame(10, 30)
    a, b = whole[:5], turned(whole[:5], whole[5:], np.full(5, angle))
    np.testing.assert_allclose(principal_angles(a, b), angle, atol=EXACT)
    np.testing.assert_allclose(matched_angles(a, b), angle, atol=EXACT)
    assert subspace_overlap(a, b) == pytest.approx(np.cos(angle) ** 2)
    assert direct_match(a, b) == pytest.approx(np.cos(angle) ** 2)


def test_the_match_is_the_best_of_all_assignments():
    a, b = frame(4, 9, 7), frame(4, 9, 8)
    squares = (a @ b.T) ** 2
    best = max(np.mean([squares[i, p[i]] for i in range(4)]) for p in permutations(range(4)))
    assert direct_match(a, b) == pytest.approx(best)


def test_chance_overlap_is_the_mean_over_random_spans():
    draws = [subspace_overlap(frame(5, 20, 0), frame(5, 20, seed)) for seed in range(1, 2001)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - chance_overlap(5, 20)) < 4 * error


def test_chance_match_and_angle_are_means_over_random_directions():
    others = [(frame(5, 20, 0), frame(5, 20, seed)) for seed in range(1, 501)]
    for chance, quantity in ((chance_match, direct_match), (chance_angle, lambda a, b: principal_angles(a, b).mean())):
        draws = [quantity(a, b) for a, b in others]
        # Eight draws stand behind the chance level.
        assert abs(np.mean(draws) - chance(5, 20)) < 4 * np.std(draws) / np.sqrt(8)


def test_adjusted_is_0_at_chance_and_1_at_best():
    assert adjusted(0.25, 0.25) == 0
    assert adjusted(1.0, 0.25) == 1
    with pytest.raises(ValueError, match="compare fewer directions than d_model"):
        adjusted(1.0, chance_overlap(7, 7))


def test_stored_rows_are_made_unit_again():
    stored = frame(5, 20).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(unit_rows(stored), axis=1), 1, atol=EXACT)
    assert unit_rows(stored).dtype == np.float64


@pytest.mark.parametrize("shapes", [((3, 8), (4, 8)), ((3, 8), (3, 9)), ((0, 8), (0, 8)), ((8,), (8,))])
def test_directions_of_unequal_shape_are_refused(shapes):
    a, b = (np.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match="two arrays"):
        subspace_overlap(a, b)


def test_more_directions_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="got k = 5, d = 4"):
        chance_overlap(5, 4)
