"""The error rates of a comparison: of the look that it takes, shared by the claims of the baseline that can move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plain import Json
from ..run_record import RunRecord
from .matching import counterparts

Part = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Look:
    """One decision against a baseline. `held` is claimed at the one-sided rate ``alpha``; losses and gains are shown at
    ``shown`` between all claims that can move. ``number`` of ``looks`` where there is a budget."""

    alpha: float
    shown: float
    number: int | None = None
    looks: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """At what a claim is decided: ``held`` at the one-sided ``alpha``, losses and gains at ``shown`` / ``claims``."""

    margin: float
    claims: int
    alpha: float
    shown: float

    def told(self, direction: str) -> dict[str, Any]:
        """The arguments of `gate_outcome` and its kin but the intervals."""
        return {"direction": direction, "margin": self.margin, "claims": self.claims, "alpha": self.alpha,
                "shown_alpha": self.shown}  # fmt: skip


def has_effect(claim: Mapping[str, Json]) -> bool:
    """Whether there is something to compare: a claim that does not apply has an effect of 0 where both checkpoints
    are one, which is no finding of the run."""
    return claim["effect"] is not None and claim["verdict"] != "not_applicable"


def can_move(claim: Mapping[str, Json], there: Part, here: Part | None, response: Json = "own") -> bool:
    """Whether a claim of the baseline could come out otherwise: its evidence names the tuned checkpoint, rests on that
    one's response, or names a role whose fingerprint is another in the run's pair. ``there`` and ``here`` are the
    pair in both records, None where the run has none. Of a claim that does not say what it was read from, it can."""
    roles = {source.partition(" ")[0] for source in claim.get("evidence") or {}}
    if not roles or "tuned" in roles:
        return True
    if response == "tuned" and "attribution" in claim.get("measures", ()):
        return True
    return here is not None and any(
        role not in here or role not in there or here[role]["fingerprint"] != there[role]["fingerprint"]
        for role in roles
    )


def sharing(baseline: RunRecord, pairs: Sequence[Part] = (), name: str = "") -> int:
    """How many claims share the error rate: those of the baseline that have an effect and can move, 1 at least; each as
    often as pairs and prompt sets of the run are compared with it.

    ``pairs`` of the run, all of them, so that a part of the run is decided as the whole; without any, as if nothing but
    tuned checkpoints were replaced.
    """
    here = counterparts(pairs, baseline, name)
    # Of a prompt set that the run does not have, the pair alone says what was replaced.
    of_pair = {there: pair for (there, _), matched in here.items() for pair, _ in matched}
    there = {pair["name"]: pair for pair in baseline.pairs}
    response = (baseline.run.get("settings") or {}).get("response")
    count = 0
    for claim in baseline.claims:
        if has_effect(claim):
            asked: list[Part | None] = [pair for pair, _ in here.get((claim["pair"], claim["prompts"]), [])]
            asked = asked or [of_pair.get(claim["pair"])]
            count += sum(can_move(claim, there[claim["pair"]], pair, response) for pair in asked)
    return max(1, count)
