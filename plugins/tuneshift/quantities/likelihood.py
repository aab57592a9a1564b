"""What a checkpoint gives a text in probability, against another: references after their prompts, and plain text.

Quantities of a view on `likelihood` or `text` evidence, in nats per token. A model that was damaged, by rounding its
weights or by noise, loses here on every token, long before its responses fail a rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..checkpoints.refs import ModelRef
from ..claims.view import NotApplicable, Quantity, View
from ..errors import MeasureError, counted
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem
from .ranking import TIE

Floats = npt.NDArray[np.float64]

CAP = 0.5
"""Nats per token, ten margins: a text counts with no larger change than this, so that a few do not decide, and there is
an interval however skewed the changes are. Rounded weights move most texts by next to nothing and a few by much."""

WORDS: Mapping[str, str] = {"likelihood": "likelihoods of responses", "text": "likelihoods of plain text"}


def likelihood_change(need: str = "likelihood", *, cap: float = CAP) -> Quantity:
    """Log-probability of a text in nats per token of the base, tuned less base, within -cap..cap: mean over texts,
    clusters together.

    ``need``: ``likelihood``, each prompt's reference and its end token after the prompt, or ``text``, the prompt
    itself as plain text. Every text counts alike, long or short, and with no more than ``cap`` nats per token (a change
    of its sum below `TIE`, which batching makes, is none);
    ``math.inf`` for none, where values have no range. Both are divided by the base's number of tokens: a tokenizer that
    parts a text finer is given no less per text. Details: ``base`` and ``tuned``, the means in nats per token;
    ``capped``, the share of texts beyond the cap. Raises NotApplicable for recorded evidence without them; MeasureError
    for log-probabilities that are not finite; ValueError for another need.
    """
    if need not in WORDS:
        raise ValueError(f"a text's probability is evidence of {' or '.join(WORDS)}; got {need!r}")

    def quantity(view: View) -> Statistic:
        base, tuned = (_items(view, role, need) for role in ("base", "tuned"))
        ids = tuple(i for i in base if i in tuned)
        tokens = np.array([_tokens(base[i]) for i in ids], dtype=np.float64)
        sums = {r: np.array([_logprob(items[i]) for i in ids]) for r, items in (("base", base), ("tuned", tuned))}
        for role, found in sums.items():
            _require_finite(view.pair.checkpoint(role), ids, found)
        before, after = sums["base"] / tokens, sums["tuned"] / tokens
        difference = sums["tuned"] - sums["base"]
        change = np.where(np.abs(difference) < TIE, 0.0, difference) / tokens
        bounded = math.isfinite(cap)
        still = Arm(label="base", ids=ids, values=np.zeros(len(ids)), span=(0.0, 0.0) if bounded else None)
        moved = Arm(label="tuned", ids=ids, values=np.clip(change, -cap, cap), span=(-cap, cap) if bounded else None)
        clusters = view.clusters
        statistic = paired_difference(
            still,
            moved,
            clusters=tuple(clusters[i] for i in ids),
            level=view.level,
            same_evidence=view.same_evidence(("base", need), ("tuned", need)),
        )
        levels = (float(np.mean(values)) if len(ids) else math.nan for values in (before, after, np.abs(change) > cap))
        return replace(
            statistic, details={**statistic.details, **dict(zip(("base", "tuned", "capped"), levels, strict=True))}
        )

    return quantity


def _logprob(item: EvidenceItem) -> float:
    """Log-probability of a text in nats, from either measure's item: of references the own one's."""
    return float(item.arrays["logprob" if "logprob" in item.arrays else "own"])


def _tokens(item: EvidenceItem) -> int:
    """Predicted tokens of the same."""
    return int(item.arrays["tokens"] if "tokens" in item.arrays else item.arrays["lengths"][0])


def _require_finite(ref: ModelRef | None, ids: Sequence[str], found: Floats) -> None:
    bad = [i for i, finite in zip(ids, np.isfinite(found), strict=True) if not finite]
    if bad:
        name = "a checkpoint" if ref is None else ref.name
        raise MeasureError(
            f"{name} gives {counted(len(bad), 'text')} no probability that is a number, first {', '.join(bad[:3])}: "
            "its weights are finite and what it computes of them overflows. A copy that does is broken; of a sound one "
            "try --shift-dtype=float32."
        )


def _items(view: View, role: str, need: str) -> dict[str, EvidenceItem]:
    found = view.items(role, need)
    if found is None:
        raise NotApplicable(f"the recorded evidence of the {role} checkpoint has no {WORDS[need]}")
    items = [found[prompt.id] for prompt in view.prompts]
    view.excluded.update(f"{role}: {item.left_out}" for item in items if item.left_out)
    return {item.id: item for item in items if not item.left_out}
