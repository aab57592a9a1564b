"""A run held against a baseline at the error rate of the look that it takes, and what is said of the whole gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plain import Json, plain
from .baselines import Baseline
from .compare import compare
from .matching import other_versions
from .missing import absent
from .rates import Look, sharing
from .sight import sight, sight_row, sight_text
from .text import conclusion

Part = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gated:
    """A run against a baseline: its ``claims`` with their comparisons, and the `gate_summary` of it all."""

    claims: list[dict[str, Json]]
    summary: dict[str, Json]
    rows: list[dict[str, Json]]
    """What can be seen of each claim, as `sight.require_power` takes them."""


def gated(
    baseline: Baseline, look: Look, claims: Sequence[Part], errors: Sequence[Part], pairs: Sequence[Part], *,
    selection: Iterable[Sequence[str]] | None, left_out: Iterable[str], versions: Mapping[str, Json],
    margins: Mapping[str, float], allow_missing: bool,
) -> Gated:  # fmt: skip
    """All claims of a finished run compared with a baseline. ``selection`` and ``left_out``: as `missing.absent`;
    ``versions``: of the packages that it measured with, of which those that differ from the baseline's are named.
    Raises UsageError as `gate.compare`."""
    count = sharing(baseline.record, pairs, baseline.name)
    compared = compared_at(claims, pairs, baseline, versions=versions, margins=margins, look=look, shared_by=count)
    missing, not_asked = absent(claims, errors, pairs, selection, left_out, baseline.record, baseline.name)
    rows = [
        sight_row(claim, held["sees"], held["margin"], planned=held["planned"])
        for claim in compared
        if (held := claim["comparison"])["sees"] is not None or held["intervals"] or held["outcome"] == "inconclusive"
    ]
    summary = gate_summary(compared, missing, not_asked, sight(rows), allow_missing=allow_missing)
    return Gated(claims=compared, rows=rows, summary=summary)


def gate_summary(
    claims: Sequence[Part], missing: Sequence[Part], not_asked: Sequence[Part], sees: Mapping[str, Json] | None, *,
    allow_missing: bool,
) -> dict[str, Json]:  # fmt: skip
    """What a run record keeps under ``run.gate``: the claims of the baseline that are ``missing`` or ``not_asked``,
    what the gate ``sees`` (`sight.sight`), both in words, and whether it is ``red``."""
    said, colour = conclusion(claims, missing, not_asked, allow_missing=allow_missing)
    made: dict[str, Json] = plain(
        {"conclusion": said, "colour": colour, "red": colour == "red", "sees_text": sight_text(sees), "sees": sees,
         "missing": missing, "not_asked": not_asked, "allow_missing": allow_missing}
    )  # fmt: skip
    return made


def run_baseline(claims: Sequence[Part]) -> dict[str, Json] | None:
    """What the run record says of the baseline: the name, when it was saved, its tuned checkpoint, the look."""
    found = (claim["comparison"]["against"] for claim in claims if claim.get("comparison"))
    return next(found, None)


def compared_at(
    claims: Sequence[Part], pairs: Sequence[Part], baseline: Baseline, *, versions: Mapping[str, Json],
    margins: Mapping[str, float], look: Look, shared_by: int,
) -> list[dict[str, Json]]:  # fmt: skip
    """The claims compared at the error rate of a look. Raises UsageError as `gate.compare`."""
    found = compare(claims, pairs, baseline.record, name=baseline.name, margins=margins, alpha=look.alpha,
                    shown=look.shown, shared_by=shared_by)  # fmt: skip
    described = described_look(baseline, look, versions, shared_by)
    return [{**claim, "comparison": {**claim["comparison"], "against": described}} for claim in found]


def described_look(baseline: Baseline, look: Look, versions: Mapping[str, Json], shared_by: int) -> dict[str, Json]:
    """What a comparison says of the baseline, of the look, and of the ``versions`` of packages that differ."""
    differ = other_versions(versions, baseline.record.run.get("versions") or {})
    taken = {"alpha": look.alpha, "shown": look.shown, "claims": shared_by, "look": look.number, "looks": look.looks}
    return {**baseline.described(), **taken, **({"other_versions": differ} if differ else {})}
