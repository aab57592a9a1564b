"""What the report shows of the feed-forward layers: angles per layer, concepts that moved, tasks and levels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..annotators.base import LEVELS
from ..claims.view import NotApplicable, View
from ..measures.subspaces import chance_angle, matched_angles, principal_angles, unit_rows
from ..plain import Json
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm
from ..store.evidence import EvidenceItem
from .concept_rotation import concept_pairs, layer_arm, leading_directions
from .concept_shares import TASKS, Share, level_share, paired_shares, task_share

MOVED = 12
"""Concepts shown in the table of those that moved most."""
WORDS_SHOWN = 10
"""Of a concept's words."""


def angle_curves_figure(view: View) -> dict[str, Json] | None:
    """Principal angles between the leading directions of base and tuned checkpoint, per layer, in degrees."""
    try:
        pairs = {i: (base, tuned) for i, base, tuned in concept_pairs(view, Counter())}
    except NotApplicable:
        return None
    if not pairs:
        return None
    layers = list(view.items("base", "concepts") or {})
    curves: dict[str, list[float | None]] = {
        name: [] for name in ("mean principal", "median principal", "largest principal", "direct match", "chance")
    }
    for layer in layers:
        values = _angles(*pairs[layer]) if layer in pairs else [None] * len(curves)
        for curve, value in zip(curves.values(), values, strict=True):
            curve.append(value)
    k, d = leading_directions(*next(iter(pairs.values())))[0].shape
    return {
        "kind": "curves",
        "title": "Angles between base and tuned directions",
        "caption": f"The {k} leading directions of each layer, of {d} dimensions. Principal angles lie between the two "
        "spans; the direct match is the mean angle between directions matched one to one. Low principal angles with a "
        "high direct match are rotation within the span, or the mixing of directions of nearly equal variance that any "
        "noise brings. Chance: the mean principal angle to a random span.",
        "x_name": "layer",
        "unit": "degrees",
        "x": [_index(layer) for layer in layers],
        "series": [{"label": label, "values": values, "low": None, "high": None} for label, values in curves.items()],
    }


def _angles(base: EvidenceItem, tuned: EvidenceItem) -> list[float | None]:
    a, b = leading_directions(base, tuned)
    angles = principal_angles(a, b)
    found = [angles.mean(), np.median(angles), angles.max(), matched_angles(a, b).mean(), chance_angle(*a.shape)]
    return [float(np.degrees(angle)) for angle in found]


def moved_concepts_figure(view: View) -> dict[str, Json] | None:
    """The base concepts that moved most, with their words and those of the closest tuned direction."""
    try:
        pairs = concept_pairs(view, Counter())
    except NotApplicable:
        return None
    moved = sorted((row for layer, base, tuned in pairs for row in _moved(layer, base, tuned)), key=lambda row: -row[0])
    if not moved:
        return None
    return {
        "kind": "words",
        "title": "Concepts that moved most",
        "caption": "A base direction and the tuned direction closest to it (cosine). Ordered by the variance that "
        "moved, share of variance times squared sine, because directions of little variance mix under any noise.",
        "columns": ["layer", "rank", "base words", "tuned words", "cosine", "variance"],
        "rows": [row for _, row in moved[:MOVED]],
    }


def _moved(layer: str, base: EvidenceItem, tuned: EvidenceItem) -> list[tuple[float, list[Json]]]:
    """(variance moved, row of the table) of each of a layer's leading concepts."""
    a, _ = leading_directions(base, tuned)
    cosines = np.minimum(np.abs(a @ unit_rows(tuned.arrays["directions"]).T), 1.0)  # [base concept, tuned concept]
    closest = cosines.argmax(axis=1)
    rows = []
    for rank, match in enumerate(closest.tolist()):
        cosine, share = float(cosines[rank, match]), float(base.arrays["spectrum"][rank])
        words = [item.values["words"][i][:WORDS_SHOWN] for item, i in ((base, rank), (tuned, match))]
        rows.append(
            (share * (1 - cosine**2), [_index(layer), rank + 1, *words, round(cosine, 3), float(f"{share:.3g}")])
        )
    return rows


def task_shares_figure(view: View) -> dict[str, Json] | None:
    """Share of concepts that suit each user task, base and tuned, with intervals over layers."""
    return _shares(
        view,
        {task: task_share(task) for task in ("any", *TASKS)},
        title="User tasks of the feed-forward concepts",
        caption="Share of a layer's concepts that the annotator finds to suit a task; several may hold. `any` is "
        "writing, coding or math. Means and t intervals over layers, as counted: not corrected for the annotator's "
        "errors.",
    )


def level_shares_figure(view: View) -> dict[str, Json] | None:
    """Share of concepts on each linguistic level, base and tuned, with intervals over layers."""
    return _shares(
        view,
        {level: level_share(level) for level in LEVELS},
        title="Linguistic levels of the feed-forward concepts",
        caption="Share of a layer's concepts on each level; the rest is on none. Means and t intervals over layers, as "
        "counted: not corrected for the annotator's errors.",
    )


def _shares(view: View, shares: Mapping[str, Share], *, title: str, caption: str) -> dict[str, Json] | None:
    rows: list[Json] = []
    for label, share in shares.items():
        try:
            base, tuned, _ = paired_shares(view, share, Counter(), undefined="")
        except NotApplicable:
            return None
        if base.ids:
            points = [_point(arm, view.level) for arm in (base, tuned)]
            rows.append({"label": label, "group": "", "points": points})
    if not rows:
        return None
    return {
        "kind": "dots", "title": title, "caption": caption, "unit": "share of concepts", "reference": None, "rows": rows
    }  # fmt: skip


def _point(arm: Arm, level: float) -> dict[str, Json]:
    nothing = layer_arm("zero", arm.ids, [0.0] * len(arm.ids), span=(0.0, 0.0))
    found = paired_difference(nothing, arm, clusters=arm.ids, level=level)
    low, high = _plain(found.interval)
    return {"label": arm.label, "value": found.effect, "low": low, "high": high, "n": found.n}


def _plain(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _index(layer: str) -> int:
    return int(layer.rpartition(".")[2])
