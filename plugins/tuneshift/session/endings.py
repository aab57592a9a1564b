"""How a finding's test ends: as its claim, its declared expectation and the comparison with a baseline say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..claims.finding import Finding
from ..gate.text import explain_comparison
from ..plain import Json
from .console import explain
from .requests import Target

Ending = tuple[Literal["pass", "fail", "skip", "xfail"], str]
"""What the test does, and the message that it does it with."""


def place_of(finding: Finding, target: Target) -> dict[str, Json]:
    """Where a finding's claim on a target stands, as in a record of a claim."""
    return {"finding": finding.id, "pair": target.pair.name, "prompts": target.on, "group": target.group}


def ending(claim: Mapping[str, Json], inconclusive: str) -> Ending:
    """How the test of a claim ends: as the comparison with a baseline says where one was made; else as the verdict and
    the declared expectation say. ``inconclusive``: ``fail``, ``skip`` or ``pass``, as the option."""
    verdict, expected = claim["verdict"], claim["expected"]
    compared = (claim["comparison"] or {}).get("outcome", "not_compared")
    if compared != "not_compared":
        return _compared(claim, compared, inconclusive)
    message = explain(claim)
    if expected and expected["verdict"] == verdict:
        return ("pass", "") if verdict == "reproduced" else ("xfail", f"{verdict}, as declared: {expected['reason']}")
    if expected:
        return "fail", (
            f"declared as {expected['verdict']} ({expected['reason']}), but it is {verdict}. "
            f"If that is news, change the expectations file.\n{message}"
        )
    if verdict == "not_applicable":
        return "skip", claim["reason"]
    if verdict == "contradicted" or (verdict == "inconclusive" and inconclusive == "fail"):
        return "fail", message
    return ("skip", message) if verdict == "inconclusive" and inconclusive == "skip" else ("pass", "")


def _compared(claim: Mapping[str, Json], outcome: str, inconclusive: str) -> Ending:
    """Fail on a regression, treat an inconclusive comparison as the option says, and pass on the rest."""
    message = explain_comparison(claim)
    if outcome == "regressed" or (outcome == "inconclusive" and inconclusive == "fail"):
        return "fail", message
    return ("skip", message) if outcome == "inconclusive" and inconclusive == "skip" else ("pass", "")
