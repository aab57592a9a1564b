"""Instruction recognition (arXiv:2310.00492, section 4): scores of a prompt's importance and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..claims.view import Cut, NotApplicable, Quantity, Score, View
from ..measures.attribution.density import PARTS, sparse_levels
from ..plain import NOTHING, Json
from ..statistics.differences import paired_difference, two_sample_difference
from ..statistics.statistic import Span, Statistic

if TYPE_CHECKING:
    from ..measures.attribution.density import Attribution, Floats, Mask

CONTEXT_MIN_TOKENS = 5
"""Tokens of context from which a prompt has some: below, a share of importance or a score over them is one word's."""
Described = Callable[[Sequence["Attribution"]], Json]
"""A model's attributions -> what is told of them."""


def paired(
    score: Score,
    *,
    undefined: str,
    span: Span | None = None,
    cut: Cut | None = None,
    by_model: Mapping[str, Described] = NOTHING,
) -> Quantity:
    """Paired difference of a per-prompt score, tuned minus base. ``undefined`` says when the score has no value,
    ``span`` the range that it cannot leave; None for a score without bound. ``cut`` makes of base and tuned attribution
    those that are scored, as `to_shorter`. ``by_model``: what else is told, among the statistic's details, of each
    model's attributions of the prompts that count."""

    def quantity(view: View) -> Statistic:
        base, tuned, clusters = view.paired(score, undefined=undefined, span=span, cut=cut)
        need = "attribution.contrast" if view.lens.contrast else "attribution"
        same = view.same_evidence(("base", need), ("tuned", need))
        found = paired_difference(base, tuned, clusters=clusters, level=view.level, same_evidence=same)
        read = {role: view.attributions(role) for role in ("base", "tuned")}
        told = {name: {role: of([read[role][i] for i in base.ids]) for role in read} for name, of in by_model.items()}
        return replace(found, details={**found.details, **told})

    return quantity


def followed_or_not(score: Score, *, min_tokens: int) -> Quantity:
    """Difference of a score's means within the tuned model: followed minus not followed prompts.

    Prompts whose response has under ``min_tokens`` tokens are left out.
    """

    def quantity(view: View) -> Statistic:
        low, high, clusters = view.followed_arms(score, min_tokens=min_tokens)
        return two_sample_difference(low, high, clusters=clusters, level=view.level)

    return quantity


def instruction_score(attribution: Attribution) -> float | None:
    """A prompt's score: summed density of its instruction tokens over log2(2 + their number), at least 0.

    An empty response scores 0, as in the release. None where no prompt token belongs to the instruction.
    Source: arXiv:2310.00492, section 4.1, normalisation as the release computes it.
    """
    return _score(attribution, attribution.instruction) if attribution.instruction.any() else None


def context_score(attribution: Attribution) -> float | None:
    """`instruction_score` of the context's tokens in place of the instruction's: whether all of a prompt got denser.

    None for prompts under `CONTEXT_MIN_TOKENS` of context.
    """
    return _score(attribution, attribution.context) if has_context(attribution) else None


def instruction_minus_context(attribution: Attribution) -> float | None:
    """`instruction_score` less `context_score`; None where either has no value."""
    instruction, context = instruction_score(attribution), context_score(attribution)
    return None if instruction is None or context is None else instruction - context


def _score(attribution: Attribution, tokens: Mask) -> float:
    return float(attribution.density[tokens].sum() / np.log2(2 + int(tokens.sum())))


def to_shorter(base: Attribution, tuned: Attribution) -> tuple[Attribution, Attribution]:
    """Both with as many response tokens as the shorter response has.

    Raises NotApplicable where some tokens of a response are attributed alone: of the longer one few would be left.
    """
    if base.thinned_from or tuned.thinned_from:
        raise NotApplicable(
            "not measured: some tokens of each response were attributed, as --shift-attribute-tokens says"
        )
    return kept_tokens(min(base.response_length, tuned.response_length))(base, tuned)


def kept_tokens(count: int) -> Cut:
    """Both with the first ``count`` tokens of their responses: exact, as no level depends on later tokens."""
    return lambda base, tuned: (base.first(count), tuned.first(count))


def longest_response(attributions: Sequence[Attribution]) -> int:
    """Tokens of their longest response; 0 for none."""
    return max((attribution.response_length for attribution in attributions), default=0)


def instruction_share(attribution: Attribution) -> Floats | None:
    """Share of importance held by instruction tokens in each response fifth, [fifth] in 0..1.

    Per response token: the instruction tokens' part of the sparse levels summed over instruction and context; then the
    mean over each fifth's tokens that have any (`tokens_without_share` counts the others). None where little could
    move: responses under five tokens, and prompts under `CONTEXT_MIN_TOKENS` of context, whose share is near 1 by
    construction. Source: arXiv:2310.00492, section 4 (importance along the response).
    """
    if attribution.response_length < PARTS or not has_context(attribution) or not attribution.instruction.any():
        return None
    shares = _shares_by_token(attribution)
    fifths = [part[~np.isnan(part)] for part in np.array_split(shares, PARTS)]
    if any(len(part) == 0 for part in fifths):
        return None
    return np.array([part.mean() for part in fifths])


def has_context(attribution: Attribution) -> bool:
    """Whether the prompt has at least `CONTEXT_MIN_TOKENS` tokens of context."""
    return int(attribution.context.sum()) >= CONTEXT_MIN_TOKENS


def _shares_by_token(attribution: Attribution) -> Floats:
    """The instruction's part of instruction and context for each response token, [response]; NaN where both have no
    level above `SPARSE_BELOW`."""
    sparse = sparse_levels(attribution.levels)
    held = sparse[attribution.instruction].sum(axis=0)
    total = held + sparse[attribution.context].sum(axis=0)
    shares: Floats = np.divide(held, total, out=np.full_like(total, np.nan), where=total > 0)
    return shares


def tokens_without_share(attributions: Sequence[Attribution]) -> float:
    """Share of all their response tokens to which neither instruction nor context matters: white space, format labels
    alone, or nothing. 0 for none."""
    missing = [np.isnan(_shares_by_token(attribution)) for attribution in attributions]
    return float(np.concatenate(missing).mean()) if any(map(len, missing)) else 0.0


def mean_instruction_share(attribution: Attribution) -> float | None:
    """Level: the mean of ``instruction_share`` over the response's fifths, in 0..1."""
    shares = instruction_share(attribution)
    return None if shares is None else float(shares.mean())


def instruction_share_slope(attribution: Attribution) -> float | None:
    """Slope: least-squares change of ``instruction_share`` per response fifth, in -0.3..0.3."""
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
