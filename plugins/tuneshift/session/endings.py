"""How a finding's test ends: as its claim, its declared expectation and the comparison with a baseline say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..checkpoints.quiet import first_line
from ..errors import TuneshiftError
from ..gate.text import explain_comparison
from ..plain import Json
from ..statistics.gate_rule import RED
from .console import explain

Ending = tuple[Literal["pass", "fail", "skip", "xfail"], str]
"""What the test does, and the message that it does it with."""


def ending(
    claim: Mapping[str, Json], inconclusive: str, *, gate_inconclusive: str = "pass", allow_missing: bool = False
) -> Ending:
    """How the test of a claim ends: as the comparison with a baseline says where one was made; else as the verdict and
    the declared expectation say. ``inconclusive``: ``fail``, ``skip`` or ``pass`` for a verdict, ``gate_inconclusive``:
    ``fail`` or ``pass`` for a comparison, as the options."""
    verdict, expected = claim["verdict"], claim["expected"]
    compared = (claim["comparison"] or {}).get("outcome", "not_compared")
    if compared != "not_compared":
        if compared == "missing" and allow_missing:
            return "skip", claim["comparison"]["reason"]
        fails = compared in RED or (compared == "inconclusive" and gate_inconclusive == "fail")
        return ("fail", explain_comparison(claim)) if fails else ("pass", "")
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


def error_record(place: Mapping[str, Json], error: BaseException, failed: type[BaseException]) -> dict[str, Json]:
    """A claim that could not be made, as the run record lists it; ``failed``: what pytest raises for a message."""
    return {**place, "message": str(error) if isinstance(error, TuneshiftError | failed) else first_line(error)}
