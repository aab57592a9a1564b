"""What a claim says against the run's baseline, and what a whole run changed, in views and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..plain import Json
from ..statistics.gate_rule import RED
from .values import estimate, finite, number

CHANGES = {
    "regressed": "▼", "worse": "↓", "missing": "✘", "improved": "▲", "inconclusive": "○", "held": "=",
    "not_compared": "–",
}  # fmt: skip
"""A comparison's outcome and its shape, what needs a look first."""

View = dict[str, Any]


def comparison_view(claim: Mapping[str, Json]) -> View | None:
    """The claim's comparison with its outcome checked and its texts made; None where it was not compared."""
    held = claim.get("comparison")
    if not isinstance(held, Mapping):
        return None
    outcome = held.get("outcome") if held.get("outcome") in CHANGES else "not_compared"
    items = str(claim.get("items") or "prompts")
    counts = [(held.get("new_items"), "new"), (held.get("gone_items"), "gone")]
    moved = [f"{number(count)} {items} {word}" for count, word in counts if finite(count)]
    return {
        **held,
        "outcome": outcome,
        "baseline": str(held.get("baseline") or "baseline"),
        "estimate": estimate(held.get("effect"), held.get("interval")),
        "moved": ", ".join(moved),
    }


def baseline_estimate(claim: Mapping[str, Json]) -> float | None:
    """The baseline's effect in the finding's unit: the claim's effect less the change that was found; None without."""
    held = claim.get("comparison")
    now = finite(claim.get("effect"))
    change = finite(held.get("effect")) if isinstance(held, Mapping) else None
    return None if now is None or change is None else now - change


def changed(claims: Sequence[View]) -> list[View]:
    """Claims that turn a gate red, then those that improved, those that changed most margins first."""
    by_size = sorted(claims, key=margins_changed, reverse=True)
    shown = [outcome for outcome in CHANGES if outcome in RED or outcome == "improved"]
    return [c for outcome in shown for c in by_size if outcome_of(c) == outcome]


def margins_changed(claim: Mapping[str, Json]) -> float:
    """How many margins a claim's effect changed by, whichever way; 0 where it was not compared."""
    held = claim.get("comparison") or {}
    return abs(finite(held.get("effect")) or 0.0) / (abs(finite(held.get("margin")) or 0.0) or 1.0)


def outcome_of(claim: Mapping[str, Json]) -> str | None:
    """Outcome of a claim view's comparison; None where there is none."""
    held = claim.get("comparison")
    return held["outcome"] if held else None


def change_counts(claims: Sequence[View]) -> list[tuple[str, int]]:
    """(outcome, count) of all comparisons, what needs a look first."""
    counts = Counter(outcome_of(claim) for claim in claims)
    return [(outcome, counts[outcome]) for outcome in CHANGES if counts[outcome]]


def baseline_names(claims: Sequence[View], runs: Sequence[Mapping[str, Json]]) -> list[str]:
    """Names of the baselines that the runs or their claims were compared with, each once."""
    held = [run.get("baseline") for run in runs]
    named = [str(one.get("name")) for one in held if isinstance(one, Mapping) and one.get("name")]
    return list(dict.fromkeys([*named, *(c["comparison"]["baseline"] for c in claims if c.get("comparison"))]))


def change_sentence(claims: Sequence[View], runs: Sequence[Mapping[str, Json]]) -> str:
    """What changed against the baseline, what its gate says and can see; nothing where no baseline was named."""
    names = baseline_names(claims, runs)
    if not names:
        return ""
    counts = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in change_counts(claims)]
    listed = ", ".join(counts) if counts else "no claim could be compared"
    gates = [run["gate"] for run in runs if isinstance(run.get("gate"), Mapping)]
    said = [str(gate.get(part)) for gate in gates for part in ("conclusion", "sees_text") if gate.get(part)]
    sentences = [f"Against {'baseline' if len(names) == 1 else 'baselines'} {' and '.join(names)}: {listed}", *said]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def missing_rows(runs: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """Claims of the baseline that runs say nothing of, though they should."""
    gates = [run["gate"] for run in runs if isinstance(run.get("gate"), Mapping)]
    return [row for gate in gates for row in gate.get("missing") or () if isinstance(row, Mapping)]
