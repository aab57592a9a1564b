"""Figures of verb relations: the map of heads and the dots of verbs."""

from __future__ import annotations

import numpy as np

from ..claims.view import View
from ..plain import Json
from ..statistics.proportions import wilson_interval
from ..store.evidence import EvidenceItem
from ..words.vocabulary import instruction_verbs
from .verb_relations import (
    GENERAL,
    INSTRUCTION,
    MIN_NEURONS,
    checked_depth,
    paired_layers,
    shared_pairs,
    verb_changes,
    win_rates,
)

SHOWN = 4
"""Gained and lost pairs that a cell of the head map names: what fits into a hover."""


def head_map_figure(view: View, *, min_neurons: int = MIN_NEURONS) -> dict[str, Json] | None:
    """Layers x heads: shared pairs with an instruction verb that the head gained minus those that it lost.

    Notes name a few of both, the most similar first. None where the model has no layer to show.
    """
    layers = list(paired_layers(view))
    heads = max((base.arrays["counts"].shape[0] for _, base, _ in layers if base is not None), default=0)
    if not heads:
        return None
    values: list[list[float | None]] = []
    notes: list[list[str]] = []
    for index, base, tuned in layers:
        if base is None or tuned is None:
            values.append([None] * heads)
            notes.append([f"left out: {_why(view, index)}"] * heads)
            continue
        sides = [_verb_pairs(item, min_neurons) for item in (base, tuned)]
        cells = [_cell(*(side.get(head, {}) for side in sides)) for head in range(heads)]
        values.append([value for value, _ in cells])
        notes.append([note for _, note in cells])
    return {
        "kind": "grid",
        "title": "Relations of instruction verbs, gained minus lost",
        "caption": f"Word pairs with an instruction verb that at least {min_neurons} neurons of a head relate in the "
        "tuned model and not in the base (+), or the other way round (-). Pairs are key-query.",
        "rows": [str(index) for index, _, _ in layers],
        "columns": [str(head) for head in range(heads)],
        "row_name": "layer",
        "column_name": "head",
        "unit": "pairs",
        "values": values,
        "notes": notes,
    }


def verb_dots_figure(
    view: View, *, layers: tuple[float, float] | None = None, min_neurons: int = MIN_NEURONS
) -> dict[str, Json] | None:
    """Win rate of each instruction verb, heads of the chosen layers pooled, with its Wilson interval, highest first.

    The reference is the general verbs' mean. None where no instruction verb changed.
    """
    share = checked_depth(layers)
    verbs = verb_changes(view, min_neurons)
    base, tuned = verbs.counts(share)
    rates, changed = win_rates(base, tuned), (base != tuned).sum(axis=0)
    shown = np.flatnonzero(np.isfinite(rates) & verbs.of(INSTRUCTION))
    if len(shown) == 0:
        return None
    general = rates[np.isfinite(rates) & verbs.of(GENERAL)]
    where = "all layers" if layers is None else f"layers {share[0]:.0%} to {share[1]:.0%}"
    order = sorted(shown.tolist(), key=lambda i: (-rates[i], verbs.names[i]))
    rows = []
    for i in order:
        low, high = wilson_interval(float(rates[i]), int(changed[i]), view.level)
        point = {"label": where, "value": float(rates[i]), "low": low, "high": high, "n": int(changed[i])}
        rows.append({"label": verbs.names[i], "group": where, "points": [point]})
    return {
        "kind": "dots",
        "title": "Heads that gained each instruction verb",
        "caption": "Share of heads that relate the verb more after tuning, among heads where that changed, with Wilson "
        f"intervals at {view.level:.1%}; the line is the mean of {len(general)} general verbs.",
        "unit": "share of changed heads",
        "reference": float(general.mean()) if len(general) else None,
        "rows": rows,
    }


def _why(view: View, index: int) -> str:
    """Why a layer was left out, by checkpoint."""
    sides = {role: view.items(role, "relations") or {} for role in ("base", "tuned")}
    reasons = {role: items[f"layer.{index}"].left_out for role, items in sides.items()}
    return "; ".join(f"{role}: {reason}" for role, reason in reasons.items() if reason)


def _verb_pairs(item: EvidenceItem, min_neurons: int) -> dict[int, dict[str, float]]:
    """Per head, its shared pairs that hold an instruction verb, as "key-query", with their similarity."""
    found, words = shared_pairs(item, min_neurons=min_neurons), item.values["words"]
    verbs = set(instruction_verbs())
    is_verb = np.array([word in verbs for word in words], dtype=np.bool_)
    result: dict[int, dict[str, float]] = {}
    for i in np.flatnonzero(is_verb[found.key] | is_verb[found.query]).tolist():
        name = f"{words[found.key[i]]}–{words[found.query[i]]}"
        result.setdefault(int(found.head[i]), {})[name] = float(found.score[i])
    return result


def _cell(base: dict[str, float], tuned: dict[str, float]) -> tuple[float, str]:
    """A head's pairs gained minus lost, and a few of them in words."""
    gained, lost = tuned.keys() - base.keys(), base.keys() - tuned.keys()
    parts = [f"{sign}{name}" for sign, names in (("+", gained), ("-", lost))
             for name in sorted(names, key=lambda n: (-(tuned | base)[n], n))[:SHOWN]]  # fmt: skip
    return float(len(gained) - len(lost)), ", ".join(parts)
