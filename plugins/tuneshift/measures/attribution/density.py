"""Importance density and the scores made of it: numpy only, one prompt at a time.

The chain of arXiv:2310.00492, section 3.1 and appendix: importance I -> levels S -> density a -> score. Where the
paper's text and its release differ the release is followed, because the published numbers came from it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]

LEVELS = 10
"""L of the paper: importance is rounded up to tenths of the response token's largest."""
SPARSE_BELOW = 7
"""b of the paper: levels up to this one become 0."""
NORM_ORDER = 4
"""p of the paper: density is the 1-norm over the p-norm of a prompt token's levels."""
RELEASE_EPSILON = 1e-7
"""The release adds this to max_n relu(I). It is absolute while I scales with p(y_m), so for a response token that the
model found unlikely the constant decides instead of the prompt."""
RELEASE_NORM_EPSILON = 1e-9
"""The release adds this to the p-norm; it keeps a token without importance at density 0."""
PARTS = 5
"""Fifths of a prompt or a response."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Attribution:
    """What one model's response to one prompt says of the prompt's tokens.

    ``levels`` [prompt token, response token] in 0..10 are made of ``importance`` (same axes; None where only levels
    were recorded; NaN for prompt tokens that it was not taken for), the first-order change in the response token's
    probability when the prompt token's embedding is removed. Masks [prompt token]: ``user`` marks the tokens of the
    user's text (the others belong to the chat template, or are thoughts), ``instruction`` and ``context`` those of the
    instruction and beside it, white space and format labels in neither; ``scope`` the tokens that levels and density
    are scaled by, the user's text unless chosen
    otherwise; levels outside it are 0. ``tokens`` are display strings, ``response`` the text (empty where only pieces
    were recorded), ``ended`` whether the model ended it by itself (None where it was given). ``thinned_from``: the
    tokens of the whole response where the response tokens are `evenly_spaced` ones of it; None where they are all.
    """

    id: str
    levels: Levels
    instruction: Mask
    context: Mask
    user: Mask
    scope: Mask
    tokens: tuple[str, ...] = ()
    response_tokens: tuple[str, ...] = ()
    response: str = ""
    ended: bool | None = None
    importance: npt.NDArray[Any] | None = None
    thinned_from: int | None = None

    def __repr__(self) -> str:
        prompt, response = self.levels.shape
        of = "" if self.thinned_from is None else f" of {self.thinned_from}"
        return f"Attribution({self.id!r}: {prompt} prompt tokens, {response}{of} response tokens)"

    @property
    def response_length(self) -> int:
        """Number of tokens of the response, attributed or not."""
        return int(self.levels.shape[1]) if self.thinned_from is None else self.thinned_from

    def first(self, count: int) -> Attribution:
        """The same of the first ``count`` response tokens alone, ``response`` and ``ended`` as they are.

        Raises ValueError for a thinned response, whose first tokens are not all there.
        """
        if self.thinned_from is not None:
            raise ValueError(f"{self!r}: a response of which some tokens are attributed cannot be cut to its first")
        return replace(
            self,
            levels=self.levels[:, :count],
            response_tokens=self.response_tokens[:count],
            importance=None if self.importance is None else self.importance[:, :count],
        )

    @property
    def density(self) -> Floats:
        """Importance density per prompt token, [prompt], in 0..1, 0 outside ``scope``."""
        return density(self.levels, scope=self.scope)

    def _repr_html_(self) -> str:
        """For notebooks: the prompt's tokens by density, and the map of levels."""
        from .html import fragment

        return fragment(self)

    def show(self, path: str | os.PathLike[str] | None = None) -> Path | None:
        """Show it: displayed in a notebook, else as a page in the browser, whose path is returned.

        The page goes to ``path`` where one is given, else to a new temporary file. Raises OSError where it cannot be
        written.
        """
        from .html import show

        return show(self, None if path is None else Path(path))


def importance_levels(
    importance: npt.NDArray[Any], *, scope: Mask | None = None, release_epsilon: bool = False
) -> Levels:
    """Normalised importance ceil(10 relu(I) / max_n relu(I)), [prompt, response] in 0..10.

    The maximum is over the prompt tokens of ``scope`` [prompt], all of them by default; the others' levels are 0,
    whatever their importance, which may be NaN for not taken.
    Scale-free by default: a response token's levels do not depend on its probability. ``release_epsilon`` adds the
    release's absolute constant to the maximum. Raises ValueError for NaN or infinite importance in the scope.
    Source: arXiv:2310.00492, section 3.1; ``SPARSE_BELOW`` is not applied here.
    """
    positive = np.maximum(np.asarray(importance, dtype=np.float64), 0.0)
    if scope is not None:
        positive = np.where(np.asarray(scope)[:, None], positive, 0.0)
    if not np.isfinite(positive).all():
        raise ValueError("importance holds NaN or infinite values; levels need finite ones")
    largest = positive.max(axis=0, keepdims=True, initial=0.0)
    if release_epsilon:
        largest = largest + RELEASE_EPSILON
    share = np.divide(positive, largest, out=np.zeros_like(positive), where=largest > 0)
    # The product can pass an integer by a rounding error (0.7 * 10 = 7.000000000000001 would become 8).
    return np.asarray(np.ceil(np.round(LEVELS * share, 9)), dtype=np.uint8)


def sparse_levels(levels: Levels) -> Floats:
    """Levels with those up to ``SPARSE_BELOW`` set to 0, [prompt, response]."""
    return np.where(levels > SPARSE_BELOW, levels, 0).astype(np.float64)


def density(levels: Levels, *, scope: Mask | None = None) -> Floats:
    """Importance density a_n = ||S_n||_1 / ||S_n||_4 over its maximum within ``scope``, [prompt] in 0..1.

    A token that matters to many response tokens is dense. Tokens outside ``scope`` get 0; an empty response gives
    zeros. Source: arXiv:2310.00492, section 3.1, as the release computes it.
    """
    sparse = sparse_levels(levels)
    norm = (sparse**NORM_ORDER).sum(axis=1) ** (1 / NORM_ORDER)
    dense = sparse.sum(axis=1) / (norm + RELEASE_NORM_EPSILON)
    if scope is not None:
        dense = np.where(scope, dense, 0.0)
    largest = dense.max(initial=0.0)
    return np.asarray(dense / largest if largest > 0 else dense)
