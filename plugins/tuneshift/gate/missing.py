"""Claims of a baseline of which a run says nothing: missing, or not asked. Pure, on run records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..plain import Json
from ..run_record import PLACE, RunRecord
from .matching import counterparts
from .rates import has_effect

Part = Mapping[str, Any]
Place = tuple[str, ...]
"""Pair, finding, prompt set, group."""


def absent(
    claims: Sequence[Part], errors: Sequence[Part], pairs: Sequence[Part], selection: Iterable[Sequence[str]] | None,
    left_out: Iterable[str], baseline: RunRecord, name: str,
) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:  # fmt: skip
    """(missing, not asked): the claims of the baseline with an effect there and no claim here, each with its place and
    the ``reason``.

    ``selection``: the places that the run asked where that was a part (-k, --finding, --shift-pair, a path, a shard);
    None for a whole run, whose every absent claim is missing. A selection leaves out tests of the run's own pairs and
    prompt sets, and the pairs of its file that are ``left_out`` by name: what falls on no other was taken away, not
    deselected.
    """
    made = {_place(claim) for claim in claims}
    failed = {_place(error): str(error["message"]) for error in errors}
    asked = None if selection is None else {tuple(place) for place in selection}
    here, unnamed = counterparts(pairs, baseline, name), set(left_out)
    missing, not_asked = [], []
    for claim in baseline.claims:
        if not has_effect(claim):
            continue
        named = here.get((claim["pair"], claim["prompts"]), [])
        places = [(str(pair["name"]), claim["finding"], prompts, claim["group"]) for pair, prompts in named]
        if made.intersection(places):
            continue
        row = {**{part: claim[part] for part in PLACE}, "effect": claim["effect"], "unit": claim["unit"]}
        if errors_here := [failed[place] for place in places if place in failed]:
            missing.append({**row, "reason": f"It could not be made: {errors_here[0]}"})
        elif asked is None:
            missing.append({**row, "reason": "This run, which is no selection, does not make the claim."})
        elif asked.intersection(places):
            missing.append({**row, "reason": "Its test was selected and left no claim."})
        elif claim["pair"] in unnamed:
            not_asked.append({**row, "reason": "Its pair was not selected."})
        elif not named:
            known = (claim["pair"], "weights") in here
            lacks = f"prompt set {claim['prompts']}" if known else f"pair {claim['pair']}"
            missing.append({**row, "reason": f"This run has no {lacks}, which no selection of tests leaves out."})
        else:
            not_asked.append({**row, "reason": "Its test was not selected."})
    return missing, not_asked


def _place(row: Part) -> Place:
    return tuple(str(row[part]) for part in PLACE)
