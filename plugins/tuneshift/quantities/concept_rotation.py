"""How tuning moved a pair's feed-forward concepts: rotation within the base's span, user tasks, linguistic levels.

Quantities of a view (arXiv:2310.00492); layers are the items. ``docs/ffn-rotation.md`` has the formulas,
the null models and what the paper does otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..claims.view import NotApplicable, Quantity, View
from ..measures.subspaces import (
    Floats,
    adjusted,
    chance_match,
    chance_overlap,
    direct_match,
    matched_angles,
    subspace_overlap,
    unit_rows,
)
from ..plain import Json
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm, Span, Statistic
from ..store.evidence import EvidenceItem

DIGITS = 9
"""To which overlap and match are rounded: float32 directions carry no more, and equal layers then agree exactly."""

Pairs = list[tuple[str, EvidenceItem, EvidenceItem]]


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """One layer's leading directions in the tuned checkpoint against the base's; all adjusted for chance.

    ``overlap`` of the two spans and ``match`` of individual directions: 1 the same, 0 as random directions would be.
    ``noise_match``: the match that Gaussian noise on the base's weights gives where it gives the same overlap.
    """

    overlap: float
    match: float
    noise_match: float

    @property
    def index(self) -> float:
        """Rotation index: the span kept and its directions not. 0 for equal and for replaced directions."""
        return self.overlap - self.match

    @property
    def beyond_noise(self) -> float:
        """The rotation index less the one that noise alone gives at this overlap."""
        return self.noise_match - self.match


def rotation(base: EvidenceItem, tuned: EvidenceItem) -> Rotation:
    """Rotation of one layer from the concepts of its base and tuned checkpoint, for ``rotation_k`` directions.

    Raises ValueError where ``rotation_k`` is d_model: all of the space is always kept.
    """
    a, b = leading_directions(base, tuned)
    k, d = a.shape

    def of_overlap(value: float) -> float:
        return min(1.0, round(adjusted(value, chance_overlap(k, d)), DIGITS))

    def of_match(value: float) -> float:
        return min(1.0, round(adjusted(value, chance_match(k, d)), DIGITS))

    overlap = of_overlap(subspace_overlap(a, b))
    curve = [
        (of_overlap(float(o)), of_match(float(m)))
        for o, m in zip(base.arrays["noise_overlap"], base.arrays["noise_match"], strict=True)
    ]
    return Rotation(overlap=overlap, match=of_match(direct_match(a, b)), noise_match=match_under_noise(overlap, curve))


def leading_directions(base: EvidenceItem, tuned: EvidenceItem) -> tuple[Floats, Floats]:
    """The ``rotation_k`` leading directions of both, float64 [k, d_model] with rows of unit length."""
    k = min(int(base.values["rotation_k"]), int(tuned.values["rotation_k"]))
    return unit_rows(base.arrays["directions"][:k]), unit_rows(tuned.arrays["directions"][:k])


def match_under_noise(overlap: float, curve: Sequence[tuple[float, float]]) -> float:
    """Adjusted match that noise gives at an adjusted overlap, between the measured (overlap, match) of the ``curve``.

    No noise is (1, 1), noise without end (0, 0). Monotone cubic interpolation in the root mean square sine
    sqrt(1 - overlap), which grows in proportion to small noise, as 1 - match does where eigenvalues lie close.
    """
    from scipy.interpolate import PchipInterpolator

    sine = {0.0: 1.0, 1.0: 0.0}
    for o, m in curve:
        sine.setdefault(math.sqrt(min(1.0, max(0.0, 1 - o))), m)
    x = sorted(sine)
    # Both ends are fixed, so a measured match that rounding or chance put out of order is pulled in between.
    y = np.clip(np.minimum.accumulate([sine[s] for s in x]), 0.0, 1.0)
    return float(PchipInterpolator(x, y)(math.sqrt(min(1.0, max(0.0, 1 - overlap)))))


def rotates_knowledge(*, beyond_noise: bool) -> Quantity:
    """Mean over layers of the rotation index, in 0..1.

    Paired by layer: overlap of the two spans less direct match of their directions (``beyond_noise`` False), or direct
    match under noise of the same overlap less the observed one (True). Raises NotApplicable for checkpoints whose
    layers or widths cannot be paired, and for recorded evidence without concepts.
    """
    labels = ("direct match", "match under noise" if beyond_noise else "subspace overlap")

    def quantity(view: View) -> Statistic:
        pairs = concept_pairs(view, view.excluded)
        if pairs and int(pairs[0][1].values["rotation_k"]) >= int(pairs[0][1].values["d_model"]):
            raise NotApplicable("the layers are too narrow: their leading directions span the whole space")
        found = [rotation(base, tuned) for _, base, tuned in pairs]
        ids = tuple(i for i, _, _ in pairs)
        reach = [r.noise_match if beyond_noise else r.overlap for r in found]
        spans = _spans(pairs, beyond_noise=beyond_noise)
        arms = [
            layer_arm(label, ids, values, span=span)
            for label, values, span in zip(labels, ([r.match for r in found], reach), spans, strict=True)
        ]
        same = view.same_evidence(("base", "concepts"), ("tuned", "concepts"))
        statistic = paired_difference(arms[0], arms[1], clusters=ids, level=view.level, same_evidence=same)
        return replace(statistic, details={**statistic.details, **_rotation_details(pairs, found)})

    return quantity


def _spans(pairs: Pairs, *, beyond_noise: bool) -> tuple[Span, Span]:
    """The ranges of a match and of what it is taken from: from no overlap at all, which lies below chance, to 1."""
    if not pairs:
        return (0.0, 1.0), (0.0, 1.0)
    k, d = leading_directions(*pairs[0][1:])[0].shape
    of_match, of_overlap = (adjusted(0.0, chance(k, d)) for chance in (chance_match, chance_overlap))
    return (of_match, 1.0), (0.0 if beyond_noise else of_overlap, 1.0)


def _rotation_details(pairs: Pairs, found: Sequence[Rotation]) -> dict[str, Json]:
    if not pairs:
        return {}
    angles = [float(np.degrees(np.mean(matched_angles(*leading_directions(b, t))))) for _, b, t in pairs]
    k, d = leading_directions(*pairs[0][1:])[0].shape
    return {
        "directions": k,
        "d_model": d,
        "subspace_overlap": float(np.mean([r.overlap for r in found])),
        "direct_match": float(np.mean([r.match for r in found])),
        "direct_match_under_noise": float(np.mean([r.noise_match for r in found])),
        "rotation_index": float(np.mean([r.index for r in found])),
        "rotation_beyond_noise": float(np.mean([r.beyond_noise for r in found])),
        "mean_angle_degrees": float(np.mean(angles)),
    }


def concept_pairs(view: View, excluded: Counter[str]) -> Pairs:
    """Layers with their concepts in base and tuned checkpoint. Raises NotApplicable where widths differ."""
    pairs = paired_layers(view, "concepts", excluded)
    widths = {int(item.values["d_model"]) for _, *both in pairs for item in both}
    if len(widths) > 1:
        raise NotApplicable(f"directions of different width cannot be compared: d_model {sorted(widths)}")
    return pairs


def paired_layers(view: View, need: str, excluded: Counter[str]) -> Pairs:
    """Layers that base and tuned checkpoint both have evidence of; others are counted in ``excluded``.

    Raises NotApplicable for recorded evidence without it and for checkpoints of different depth.
    """
    sides: list[Mapping[str, EvidenceItem]] = []
    for role in ("base", "tuned"):
        found = view.items(role, need)
        if found is None:
            raise NotApplicable(f"the recorded evidence of the {role} checkpoint has no {need} of feed-forward layers")
        sides.append(found)
    base, tuned = sides
    if base.keys() != tuned.keys():
        raise NotApplicable(f"layers cannot be paired: the base has {len(base)} and the tuned checkpoint {len(tuned)}")
    pairs = []
    for i in base:
        reasons = [
            f"{role}: {item.left_out}" for role, item in (("base", base[i]), ("tuned", tuned[i])) if item.left_out
        ]
        excluded.update(reasons)
        if not reasons:
            pairs.append((i, base[i], tuned[i]))
    return pairs


def layer_arm(label: str, ids: tuple[str, ...], values: Sequence[float], *, span: Span) -> Arm:
    """One value per layer, within ``span``."""
    return Arm(label=label, ids=ids, values=np.array(values, dtype=np.float64), span=span)
