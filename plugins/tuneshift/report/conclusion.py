"""A run in a few sentences: the conclusion, known outcomes, the worst claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..claims.claim_record import IDENTICAL
from ..errors import counted
from ..plain import Json
from ..statistics.gate_rule import RED
from .changes import margins_changed, outcome_of

SHAPES = {"reproduced": "●", "contradicted": "◆", "inconclusive": "○", "not_applicable": "–"}
"""A verdict's shape, the same in figures and text, so that colour never carries it alone."""

View = dict[str, Any]


def headline(claims: Sequence[Mapping[str, Json]]) -> str:
    """One sentence of conclusion: how many claims hold, on which pairs, and what became of the others; before that, how
    many turn the gate red, where any do, and on which pairs there was nothing to compare."""
    if not claims:
        return "No claim was tested in this run."
    worse = [c for c in claims if outcome_of(c) in RED]
    return (_regressed(worse, len(claims)) if worse else "") + _one_checkpoint(claims) + _held(claims)


def _one_checkpoint(claims: Sequence[Mapping[str, Json]]) -> str:
    """A sentence on pairs whose checkpoints are one; empty where there are none."""
    pairs = list(dict.fromkeys(str(c["pair"]) for c in claims if c.get("reason") == IDENTICAL))
    if not pairs:
        return ""
    named = " and ".join(pairs) if len(pairs) <= 2 else f"{len(pairs)} pairs"
    return f"The checkpoints of {named} have {IDENTICAL}. "


def unmade(count: int) -> str:
    """One sentence on claims that could not be made, empty where there are none."""
    if not count:
        return ""
    return f"{counted(count, 'claim')} could not be made, because something failed."


def one_draw(claims: Sequence[View]) -> str:
    """What no interval of the run covers, empty where it has none. A role with several seeds is not known here."""
    if not any(c["verdict"] != "not_applicable" for c in claims):
        return ""
    return (
        "One trained checkpoint is one draw: intervals cover other prompts, layers or heads of these checkpoints, and "
        "not what training them again, from another seed or on data in another order, would change."
    )


def _regressed(worse: Sequence[Mapping[str, Json]], total: int) -> str:
    names = list(dict.fromkeys(str(c["comparison"]["baseline"]) for c in worse))
    outcomes = {outcome_of(c) for c in worse}
    one = {"regressed": "has regressed", "worse": "is worse", "missing": "is missing"}
    many = {"regressed": "regressed", "worse": "are worse", "missing": "are missing"}
    if len(outcomes) > 1:
        verb = "regressed, are worse or missing"
    elif total > 1 and len(worse) == 1 and outcomes != {"regressed"}:
        verb = one[str(outcomes.pop())]
    else:
        verb = (many if total > 1 else one)[str(outcomes.pop())]
    subject = f"{len(worse)} of {total} claims" if total > 1 else "The one claim that was tested"
    return f"{subject} {verb} against baseline {' and '.join(names)}. "


def _held(claims: Sequence[Mapping[str, Json]]) -> str:
    counts = Counter(c["verdict"] for c in claims)
    pairs = list(dict.fromkeys(str(c.get("pair")) for c in claims))
    where = f"on {' and '.join(pairs)}" if len(pairs) <= 2 else f"across {len(pairs)} pairs"
    total, held = len(claims), counts["reproduced"]
    if total == 1:
        return f"The one claim that was tested is {str(claims[0]['verdict']).replace('_', ' ')} {where}."
    start = {0: f"None of the {total} claims is", total: f"All {total} claims are", 1: f"1 of {total} claims is"}
    sentence = f"{start.get(held, f'{held} of {total} claims are')} reproduced {where}"
    rest = [f"{counts[v]} {v.replace('_', ' ')}" for v in SHAPES if v != "reproduced" and counts[v]]
    if not rest:
        return sentence + "."
    listed = rest[0] if len(rest) == 1 else f"{', '.join(rest[:-1])} and {rest[-1]}"
    return f"{sentence}; {listed}."


def declared(claims: Sequence[View]) -> str:
    """One sentence on known outcomes: how many were declared, whether they came out so, and what nobody declared."""
    known = [c for c in claims if c["expected"]]
    differing = sum(not c["as_expected"] for c in known)
    contradicted, undecided = (
        sum(not c["expected"] and c["verdict"] == verdict for c in claims)
        for verdict in ("contradicted", "inconclusive")
    )
    parts = []
    if known:
        noun = "outcome was" if len(known) == 1 else "outcomes were"
        fate = f"{differing} came out otherwise" if differing else "none came out otherwise"
        parts.append(f"{len(known)} {noun} declared beforehand; {fate}.")
    if contradicted:
        verb = "claim is contradicted" if contradicted == 1 else "claims are contradicted"
        parts.append(f"{contradicted} {verb} without having been declared.")
    if undecided:
        verb = "claim is" if undecided == 1 else "claims are"
        parts.append(f"{undecided} {verb} undecided: these prompts neither show nor refute what is claimed.")
    return " ".join(parts)


def worst(claims: Sequence[View]) -> tuple[str, View] | None:
    """What to look at first and what to call it: a failed claim, else the reproduced one that was closest to failing.

    A regression comes before all else, the one that lost most margins first; then what nobody declared, then
    contradicted before inconclusive, then the distance of the effect from the claimed side of the sesoi, in sesois.
    None where nothing was tested.
    """
    tested = [c for c in claims if c["verdict"] != "not_applicable"]
    if not tested:
        return None
    grave = {"contradicted": 2, "inconclusive": 1}

    def rank(claim: View) -> tuple[float, bool, int, float]:
        gravity = grave.get(claim["verdict"], 0)
        lost = 1.0 + margins_changed(claim) if outcome_of(claim) in RED else 0.0
        return lost, gravity > 0 and not claim["as_expected"], gravity, claim["shortfall"]

    found = max(tested, key=rank)
    calm = found["verdict"] == "reproduced" and outcome_of(found) not in RED
    return ("Closest call" if calm else "Worst claim"), found
