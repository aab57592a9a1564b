"""How two sets of orthonormal directions lie to each other: principal angles, overlap, direct match. numpy and scipy.

Directions are rows, [k, d], orthonormal up to rounding. Rows may have either sign and any order: nothing here depends
on it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CHANCE_DRAWS = 8
"""Haar-random subspaces behind a chance level; the match of one draw is a mean over k directions already."""


def unit_rows(directions: npt.NDArray[np.floating]) -> Floats:
    """Rows as float64 of unit length. Stored float32 rows are off by 1e-8, which is more than angles here may be."""
    rows = np.asarray(directions, dtype=np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float64)


def principal_cosines(a: Floats, b: Floats) -> Floats:
    """Cosines of the principal angles between the row spaces, [k], falling, in 0..1: singular values of A B^T."""
    _check(a, b)
    return np.asarray(np.clip(np.linalg.svd(a @ b.T, compute_uv=False), 0.0, 1.0))


def principal_angles(a: Floats, b: Floats) -> Floats:
    """Principal angles in radians, [k], rising, exact for small ones too (Bjorck and Golub 1973).

    A cosine near 1 has lost the angle: cos(1e-8) is 1. Angles below 45 degrees come from their sines, the singular
    values of what B has outside of A's span.
    """
    cosines = principal_cosines(a, b)
    sines = np.clip(np.linalg.svd(b - (b @ a.T) @ a, compute_uv=False)[::-1], 0.0, 1.0)
    return np.where(cosines**2 > 0.5, np.arcsin(sines), np.arccos(cosines))


def subspace_overlap(a: Floats, b: Floats) -> float:
    """Mean squared principal cosine, in 0..1: 1 for the same span, 0 for orthogonal ones."""
    _check(a, b)
    return float(min(1.0, np.sum((a @ b.T) ** 2) / len(a)))


def best_assignment(a: Floats, b: Floats) -> npt.NDArray[np.int64]:
    """For each row of ``a`` the row of ``b`` that it is matched with, one to one, [k]: the largest sum of squared
    cosines."""
    from scipy.optimize import linear_sum_assignment

    _check(a, b)
    _, columns = linear_sum_assignment((a @ b.T) ** 2, maximize=True)
    return np.asarray(columns, dtype=np.int64)


def direct_match(a: Floats, b: Floats) -> float:
    """Mean squared cosine of individual directions under the best one-to-one assignment, in 0..1.

    1 only where the directions are the same but for order and sign; at most ``subspace_overlap``.
    """
    matched = b[best_assignment(a, b)]
    return float(min(1.0, np.mean(np.sum(a * matched, axis=1) ** 2)))


def matched_angles(a: Floats, b: Floats) -> Floats:
    """Angle in radians between each row of ``a`` and the row of ``b`` that it is matched with, [k], in 0..pi / 2."""
    matched = b[best_assignment(a, b)]
    cosines = np.sum(a * matched, axis=1)
    sines = np.linalg.norm(matched - cosines[:, None] * a, axis=1)
    return np.asarray(np.arctan2(sines, np.abs(cosines)))


def chance_overlap(k: int, d: int) -> float:
    """Expected overlap of two Haar-random k-dimensional subspaces of R^d: k / d, exactly."""
    _check_size(k, d)
    return k / d


@lru_cache(maxsize=64)
def chance_match(k: int, d: int) -> float:
    """Mean direct match of directions with Haar-random ones, from a few seeded draws; about 2 ln(k) / d."""
    return float(np.mean([direct_match(np.eye(k, d), frame) for frame in _haar_frames(k, d)]))


@lru_cache(maxsize=64)
def chance_angle(k: int, d: int) -> float:
    """Mean principal angle in radians between a subspace and Haar-random ones, from a few seeded draws."""
    return float(np.mean([principal_angles(np.eye(k, d), frame) for frame in _haar_frames(k, d)]))


def adjusted(value: float, chance: float) -> float:
    """(value - chance) / (1 - chance): 0 at chance, 1 for a perfect match.

    Raises ValueError for a chance of 1, where the value says nothing: k directions of R^k span all of it.
    """
    if not chance < 1:
        raise ValueError(f"a chance level of {chance} leaves nothing to see; compare fewer directions than d_model")
    return (value - chance) / (1 - chance)


def _haar_frames(k: int, d: int) -> list[Floats]:
    _check_size(k, d)
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(CHANCE_DRAWS):
        # The sign of R's diagonal decides nothing here: all that is read of a frame is free of signs.
        q, _ = np.linalg.qr(rng.standard_normal((d, k)))
        frames.append(np.ascontiguousarray(q.T))
    return frames


def _check_size(k: int, d: int) -> None:
    if not 0 < k <= d:
        raise ValueError(f"k directions of R^d need 0 < k <= d; got k = {k}, d = {d}")


def _check(a: Floats, b: Floats) -> None:
    if a.ndim != 2 or a.shape != b.shape or not len(a):
        raise ValueError(f"directions are two arrays [k, d] of one shape, k above 0; got {a.shape} and {b.shape}")
