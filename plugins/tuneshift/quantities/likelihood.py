"""What a checkpoint gives a text in probability, against another: references after their prompts, and plain text.

Quantities of a view on `likelihood` or `text` evidence, in nats per token. A model that was damaged, by rounding its
weights or by noise, loses here on every token, long before its responses fail a rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..claims.view import NotApplicable, Quantity, View
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem

CAP = 0.5
"""Nats per token, ten margins: a text counts with no larger change than this, so that a few do not decide, and there is
an interval however skewed the changes are. Rounded weights move most texts by next to nothing and a few by much."""

WORDS: Mapping[str, str] = {"likelihood": "likelihoods of responses", "text": "likelihoods of plain text"}


def likelihood_change(need: str = "likelihood") -> Quantity:
    """Mean log-probability of a text's tokens, in nats, tuned less base, in -0.5..0.5: mean over texts, clusters
    together.

    ``need``: ``likelihood``, each prompt's reference and its end token after the prompt, or ``text``, the prompt
    itself as plain text. Every text counts alike, long or short, and with no more than half a nat per token (`CAP`).
    Details: ``base`` and ``tuned``, the means in nats per token; ``capped``, the share of texts beyond that. Raises
    NotApplicable for recorded evidence without them; ValueError for another need.
    """
    if need not in WORDS:
        raise ValueError(f"a text's probability is evidence of {' or '.join(WORDS)}; got {need!r}")

    def quantity(view: View) -> Statistic:
        base, tuned = (_items(view, role, need) for role in ("base", "tuned"))
        ids = tuple(i for i in base if i in tuned)
        before, after = (np.array([per_token(items[i]) for i in ids], dtype=np.float64) for items in (base, tuned))
        change = after - before
        none = Arm(label="base", ids=ids, values=np.zeros(len(ids)), span=(0.0, 0.0))
        moved = Arm(label="tuned", ids=ids, values=np.clip(change, -CAP, CAP), span=(-CAP, CAP))
        clusters = view.clusters
        statistic = paired_difference(
            none,
            moved,
            clusters=tuple(clusters[i] for i in ids),
            level=view.level,
            same_evidence=view.same_evidence(("base", need), ("tuned", need)),
        )
        levels = (float(np.mean(values)) if len(ids) else math.nan for values in (before, after, np.abs(change) > CAP))
        return replace(
            statistic, details={**statistic.details, **dict(zip(("base", "tuned", "capped"), levels, strict=True))}
        )

    return quantity


def per_token(item: EvidenceItem) -> float:
    """Log-probability of a text in nats per predicted token, 0 or below, from either measure's item."""
    arrays = item.arrays
    if "logprob" in arrays:
        return float(arrays["logprob"]) / int(arrays["tokens"])
    return float(arrays["own"]) / int(arrays["lengths"][0])


def _items(view: View, role: str, need: str) -> dict[str, EvidenceItem]:
    found = view.items(role, need)
    if found is None:
        raise NotApplicable(f"the recorded evidence of the {role} checkpoint has no {WORDS[need]}")
    items = [found[prompt.id] for prompt in view.prompts]
    view.excluded.update(f"{role}: {item.left_out}" for item in items if item.left_out)
    return {item.id: item for item in items if not item.left_out}
