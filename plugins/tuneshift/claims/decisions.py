"""What a run says of all its claims together. Pure, on claims as plain JSON, and decides nothing.

A claim is decided by itself, at its family's share of the error rate (`claim.Claim`). Over all claims of a run
stand adjusted p and q, and what the families do not control: how many decisions were made, and how many of them may be
expected to be false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import counted
from ..plain import Json, plain
from ..statistics.multiplicity import benjamini_hochberg, holm
from .finding import Finding, Outcome

Key = tuple[str, str, str, str]


def claim_key(claim: Mapping[str, Json]) -> Key:
    """What a run makes one claim of: pair, finding, prompt set and group."""
    return (claim["pair"], claim["finding"], claim["prompts"], claim["group"])


def family_size(finding: Finding, catalogue: Iterable[Finding]) -> int:
    """How many findings share the error rate of a finding's family: those of the shipped catalogue, whatever is
    selected and whatever applies; 1 for a family that the catalogue does not have."""
    return max(1, sum(other.family == finding.family for other in catalogue))


def with_run_wide(claims: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The claims with ``adjusted_p`` (Holm 1979) and ``q`` (Benjamini and Hochberg 1995) over all of them, in the order
    given. Both rest on ``p_decides``; claims that do not apply have none and do not count."""
    counted = [k for k, claim in enumerate(claims) if claim["verdict"] != Outcome.NOT_APPLICABLE]
    errors = [claims[k]["p_decides"] for k in counted]
    result = [dict(claim) for claim in claims]
    for k, adjusted, q in zip(counted, holm(errors), benjamini_hochberg(errors), strict=True):
        result[k] |= plain({"adjusted_p": adjusted, "q": q})
    return result


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What no family controls: how often the error rate is spent anew.

    ``families`` counts families on each pair, prompt set and group, ``claims`` the claims that were decided in them,
    ``false`` how many of these decisions are at most expected to be false.
    """

    families: int
    claims: int
    false: float

    def fields(self) -> dict[str, Json]:
        """The same for the record's ``run``."""
        return {"confirmatory_claims": self.claims, "families": self.families, "false_decisions_at_most": self.false}

    def sentence(self, alpha: float, verb: str = "decided") -> str:
        """The same in words."""
        claims = counted(self.claims, "claim")
        families = f"{self.families} famil{'y' if self.families == 1 else 'ies'}"
        return (
            f"{claims} {verb} in {families} (an error rate of {alpha:g} for each on each pair, prompt set and group); "
            f"no more than {self.false:.3g} false decisions are expected over all of them"
        )


def exposure(places: Iterable[tuple[str, int, str, str, str]], alpha: float) -> Exposure:
    """Of claims that are decided, each as (family, its size, pair, prompt set, group)."""
    made = list(places)
    return Exposure(
        families=len({(family, *where) for family, _, *where in made}),
        claims=len(made),
        false=sum(alpha / size for _, size, *_ in made),
    )


def exposure_of(claims: Iterable[Mapping[str, Json]], alpha: float) -> Exposure:
    """Of the claims of a record, without those that do not apply."""
    return exposure(
        (
            # A record from before families: each finding by itself, which is the most that can be false.
            (c.get("family", c["finding"]), c.get("family_size", 1), c["pair"], c["prompts"], c["group"])
            for c in claims
            if c["verdict"] != Outcome.NOT_APPLICABLE
        ),
        alpha,
    )
