"""Importance density and the scores made of it: numpy only, one prompt at a time.

The chain of arXiv:2310.00492, section 3.1 and appendix: importance I -> levels S -> density a -> score. Where the
paper's
text and its release differ the release is followed, because the published numbers came from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What one model's response to one prompt says of the prompt's tokens.

    ``levels`` [prompt, response] in 0..10; ``instruction`` and ``user`` [prompt] mark instruction tokens and tokens of
    the
    user's text (the others belong to the chat template); ``scope`` [prompt] says over which tokens density is
    normalised.
    ``tokens`` are display strings, ``response`` the text (empty where only pieces were recorded).
    """

    id: str
    levels: Levels
    instruction: Mask
    user: Mask
    scope: Mask
    tokens: tuple[str, ...] = ()
    response_tokens: tuple[str, ...] = ()
    response: str = ""
    ended: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def response_length(self) -> int:
        """Number of response tokens."""
        return int(self.levels.shape[1])

    @property
    def density(self) -> Floats:
        """Importance density per prompt token, [prompt], in 0..1, 0 outside ``scope``."""
        return density(self.levels, scope=self.scope)


def importance_levels(importance: npt.NDArray[Any], *, release_epsilon: bool = False) -> Levels:
    """Normalised importance ceil(10 relu(I) / max_n relu(I)), [prompt, response] in 0..10.

    Scale-free by default: a response token's levels do not depend on its probability. ``release_epsilon`` adds the
    release's absolute constant to the maximum. Raises ValueError for NaN or infinite importance.
    Source: arXiv:2310.00492, section 3.1; ``SPARSE_BELOW`` is not applied here.
    """
    positive = np.maximum(np.asarray(importance, dtype=np.float64), 0.0)
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
    zeros.
    Source: arXiv:2310.00492, section 3.1, as the release computes it.
    """
    sparse = sparse_levels(levels)
    norm = (sparse**NORM_ORDER).sum(axis=1) ** (1 / NORM_ORDER)
    dense = sparse.sum(axis=1) / (norm + RELEASE_NORM_EPSILON)
    if scope is not None:
        dense = np.where(scope, dense, 0.0)
    largest = dense.max(initial=0.0)
    return np.asarray(dense / largest if largest > 0 else dense)


def instruction_score(attribution: Attribution) -> float | None:
    """A prompt's score: summed density of its instruction tokens over log2(2 + their number), at least 0.

    An empty response scores 0, as in the release. None where no prompt token belongs to the instruction.
    Source: arXiv:2310.00492, section 4.1, normalisation as the release computes it.
    """
    count = int(attribution.instruction.sum())
    if count == 0:
        return None
    return float(attribution.density[attribution.instruction].sum() / np.log2(2 + count))


def instruction_share(attribution: Attribution) -> Floats | None:
    """Share of importance held by instruction tokens in each response fifth, [fifth] in 0..1.

    Per response token: the instruction tokens' part of the summed sparse levels within ``scope``; then the mean over
    each
    fifth's tokens that have any. None where nothing could move: responses under five tokens, or a prompt without
    context, whose share is 1 by construction. Source: arXiv:2310.00492, section 4 (importance along the response).
    """
    context = attribution.scope & ~attribution.instruction
    if attribution.response_length < PARTS or not context.any() or not attribution.instruction.any():
        return None
    sparse = sparse_levels(attribution.levels) * attribution.scope[:, None]
    total = sparse.sum(axis=0)
    held = sparse[attribution.instruction].sum(axis=0)
    shares = np.divide(held, total, out=np.full_like(total, np.nan), where=total > 0)
    fifths = [part[~np.isnan(part)] for part in np.array_split(shares, PARTS)]
    if any(len(part) == 0 for part in fifths):
        return None
    return np.array([part.mean() for part in fifths])


def mean_instruction_share(attribution: Attribution) -> float | None:
    """Level: the mean of ``instruction_share`` over the response's fifths, in 0..1."""
    shares = instruction_share(attribution)
    return None if shares is None else float(shares.mean())


def instruction_share_slope(attribution: Attribution) -> float | None:
    """Slope: least-squares change of ``instruction_share`` per response fifth."""
    shares = instruction_share(attribution)
    return None if shares is None else float(np.polyfit(np.arange(PARTS), shares, 1)[0])


MIDDLE_MIN_TOKENS = 30
"""Prompts under this many tokens have fifths of fewer than six tokens: too few to speak of a middle."""


def prompt_profile(attribution: Attribution) -> Floats | None:
    """Mean density in each prompt fifth, [fifth], over the tokens in ``scope``; None for prompts under 30 of them."""
    dense = attribution.density[attribution.scope]
    if len(dense) < MIDDLE_MIN_TOKENS:
        return None
    return np.array([part.mean() for part in np.array_split(dense, PARTS)])


def middle_density_share(attribution: Attribution) -> float | None:
    """Middle against ends of the prompt: mean density of the middle three fifths over the sum of both means, in 0..1.

    A half means that the middle is as dense as the ends. The ratio middle / ends itself has no upper bound and single
    prompts would decide its mean; this is the same ratio r as r / (1 + r). None for prompts under 30 tokens or
    without any density. Source: arXiv:2310.00492v1, section on the prompt's middle; the bounded form is ours.
    """
    profile = prompt_profile(attribution)
    if profile is None:
        return None
    middle, ends = profile[1:-1].mean(), profile[[0, -1]].mean()
    return float(middle / (middle + ends)) if middle + ends > 0 else None
