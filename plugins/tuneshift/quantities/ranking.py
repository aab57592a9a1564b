"""Response ranking: does a model give an instruction's own response more probability than another's?

Quantities of a view on `likelihood` evidence (arXiv:2409.14254); prompts are the items, clusters count
together. ``docs/response-ranking.md`` has the four scores, what each leaves in, and how the intervals fare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..claims.view import NotApplicable, Quantity, View
from ..plain import Json
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem

Floats = npt.NDArray[np.float64]
RankingScore = Literal["mean", "sum", "pmi", "swap"]

SCORES: tuple[RankingScore, ...] = ("mean", "sum", "pmi", "swap")
CHANCE = 0.5
FIXED = (CHANCE, CHANCE)
"""The range of what does not vary."""
TIE = 1e-4
"""Nats. Two sums differ by this at least where one is larger: each is exact to half of it. A smaller margin is 0."""


def margins(item: EvidenceItem, score: RankingScore) -> Floats:
    """By how much a prompt's own response is ahead of each of its k others, [k]; NaN where one did not fit, 0 a tie.

    In nats; those of ``mean`` in nats per token. With log p summed over a response's tokens and its end token, n and
    n_j of them: ``mean``: log p(r | x) / n - log p(r_j | x) / n_j, as arXiv:2409.14254's release ranks. ``sum``: log
    p(r | x) - log p(r_j | x). ``pmi``: the same for log p(r | x) - log p(r), pointwise mutual information. ``swap``:
    log p(r | x) - log p(r | x_j), another instruction in place of another response. Margins below what the sums are
    exact to are ties. Raises ValueError for an unknown score.
    """
    arrays = item.arrays
    if score in ("mean", "sum"):
        return _ahead(np.append(arrays["own"], arrays["others"]), _tokens(item, score))
    if score == "pmi":
        ahead = np.asarray(arrays["own"] - arrays["others"] - prior_margins(item, score))
    elif score == "swap":
        ahead = np.asarray(arrays["own"] - arrays["swapped"])
    else:
        raise ValueError(f"a ranking score is one of {', '.join(SCORES)}; got {score!r}")
    return np.where(np.abs(ahead) < TIE, 0.0, ahead)


def prior_margins(item: EvidenceItem, score: RankingScore) -> Floats:
    """The margins, [k], that the responses bring along whatever the instruction: by log p(r), per token for ``mean``.

    NaN where the tokenizer has no prompt that asks nothing.
    """
    return _ahead(item.arrays["unconditional"], _tokens(item, score))


def wins(ahead: Floats) -> float | None:
    """Share of margins that are won, in 0..1: above zero, ties half. NaN is left out; None where all are."""
    known = ahead[~np.isnan(ahead)]
    return float(np.mean(_won(known))) if len(known) else None


def ranked(role: str, score: RankingScore) -> Quantity:
    """Share of wins of a role's checkpoint less chance, in -0.5..0.5: mean over prompts, clusters together.

    Details: ``share`` of wins in 0..1; ``comparisons`` made; ``median_margin`` in the score's unit;
    ``agrees_with_prior``, the share of comparisons, ties half, that the response with the higher unconditional
    probability (per token for ``mean``) wins, whether it is the instruction's own or not.

    Raises NotApplicable for recorded evidence without likelihoods.
    """

    def quantity(view: View) -> Statistic:
        found = likelihood_items(view, role)
        ahead = {i: margins(item, score) for i, item in found.items()}
        chance, won = _arms(view, {i: (CHANCE, wins(m)) for i, m in ahead.items()}, ("chance", role), score)
        clusters = _clusters(view, won)
        statistic = paired_difference(chance, won, clusters=clusters, level=view.level)
        kept = [(ahead[i], prior_margins(found[i], score)) for i in won.ids]
        return replace(statistic, details={**statistic.details, "share": won.mean, **_details(kept)})

    return quantity


def ranking_survives(score: RankingScore = "mean") -> Quantity:
    """Share of wins of the tuned checkpoint less the base's, in -1..1, paired by prompt.

    A comparison that does not fit the context of one of them counts for neither. Raises NotApplicable as `ranked`.
    """

    def quantity(view: View) -> Statistic:
        base, tuned = likelihood_items(view, "base"), likelihood_items(view, "tuned")
        shares = {}
        for i in (i for i in base if i in tuned):
            sides = margins(base[i], score), margins(tuned[i], score)
            unknown = np.isnan(sides[0]) | np.isnan(sides[1])
            shares[i] = (wins(sides[0][~unknown]), wins(sides[1][~unknown]))
        low, high = _arms(view, shares, ("base", "tuned"), score)
        same = view.same_evidence(("base", "likelihood"), ("tuned", "likelihood"))
        return paired_difference(low, high, clusters=_clusters(view, low), level=view.level, same_evidence=same)

    return quantity


def likelihood_items(view: View, role: str) -> dict[str, EvidenceItem]:
    """A role's measured items in prompt order; why others were left out is counted."""
    found = view.items(role, "likelihood")
    if found is None:
        raise NotApplicable(f"the recorded evidence of the {role} checkpoint has no likelihoods of responses")
    items = [found[prompt.id] for prompt in view.prompts]
    view.excluded.update(f"{role}: {item.left_out}" for item in items if item.left_out)
    return {item.id: item for item in items if not item.left_out}


def _arms(
    view: View, shares: Mapping[str, tuple[float | None, float | None]], labels: tuple[str, str], score: RankingScore
) -> tuple[Arm, Arm]:
    """Both sides of a comparison, over the items that have a value on both."""
    known = {i: pair for i, pair in shares.items() if None not in pair}
    if len(known) < len(shares):
        why = "no unconditional likelihood, or no" if score == "pmi" else "no"
        view.excluded[f"{why} comparison that fits the context"] += len(shares) - len(known)
    values = np.array(list(known.values()), dtype=np.float64).reshape(-1, 2)
    low, high = (
        Arm(label=label, ids=tuple(known), values=values[:, k], span=FIXED if label == "chance" else (0.0, 1.0))
        for k, label in enumerate(labels)
    )
    return low, high


def _clusters(view: View, arm: Arm) -> tuple[str, ...]:
    clusters = view.clusters
    return tuple(clusters[i] for i in arm.ids)


def _tokens(item: EvidenceItem, score: RankingScore) -> Floats:
    """What a response's log-probability is divided by, own and others', [1 + k]."""
    lengths = item.arrays["lengths"].astype(np.float64)
    return lengths if score == "mean" else np.ones_like(lengths)


def _ahead(sums: Floats, tokens: Floats) -> Floats:
    """Margins of the first of 1 + k log-probabilities over the others, each divided by its tokens; ties are 0."""
    scores = sums / tokens
    ahead = scores[0] - scores[1:]
    return np.where(np.abs(ahead) < TIE / 2 * (1 / tokens[0] + 1 / tokens[1:]), 0.0, ahead)


def _won(ahead: Floats) -> Floats:
    return np.where(ahead == 0, 0.5, (ahead > 0).astype(np.float64))


def _details(kept: list[tuple[Floats, Floats]]) -> dict[str, Json]:
    ahead = np.concatenate([margin for margin, _ in kept]) if kept else np.zeros(0)
    prior = np.concatenate([margin for _, margin in kept]) if kept else np.zeros(0)
    known, both = ~np.isnan(ahead), ~np.isnan(ahead + prior)
    agreement = 1 - np.abs(_won(ahead[both]) - _won(prior[both]))
    return {
        "comparisons": int(known.sum()),
        "median_margin": float(np.median(ahead[known])) if known.any() else math.nan,
        "agrees_with_prior": float(agreement.mean()) if both.any() else math.nan,
    }
