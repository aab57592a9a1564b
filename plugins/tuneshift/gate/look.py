"""A run held against a baseline at the error rate of the look that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..plain import Json
from .baselines import Baseline, Baselines, Look
from .compare import compare, sharing
from .matching import other_versions


def against(
    storage: Baselines,
    baseline: Baseline,
    claims: Sequence[Mapping[str, Json]],
    pairs: Sequence[Mapping[str, Json]],
    *,
    versions: Mapping[str, Json],
    margins: Mapping[str, float],
    alpha: float,
) -> list[dict[str, Json]]:
    """The claims of a finished run compared with a baseline at the error rate of the look that they take at it.

    ``versions``: of the packages that this run measured with; those that differ from the baseline's are named.

    The look is taken last, so that a run that cannot be compared spends none. Raises UsageError as `gate.compare` and
    where the budget is spent.
    """
    compare(claims, pairs, baseline.record, name=baseline.name, margins=margins, alpha=alpha)
    look = storage.look(baseline, claims, alpha)
    return compared_at(claims, pairs, baseline, versions=versions, margins=margins, look=look)


def run_baseline(claims: Sequence[Mapping[str, Json]]) -> dict[str, Json] | None:
    """What the run record says of the baseline: the name, when it was saved, its tuned checkpoint, the look."""
    found = (claim["comparison"]["against"] for claim in claims if claim.get("comparison"))
    return next(found, None)


def compared_at(
    claims: Sequence[Mapping[str, Json]],
    pairs: Sequence[Mapping[str, Json]],
    baseline: Baseline,
    *,
    versions: Mapping[str, Json],
    margins: Mapping[str, float],
    look: Look,
) -> list[dict[str, Json]]:
    """The claims compared at the error rate of a look that was taken. Raises UsageError as `gate.compare`."""
    found = compare(claims, pairs, baseline.record, name=baseline.name, margins=margins, alpha=look.alpha)
    described = described_look(baseline, look, versions)
    return [{**claim, "comparison": {**claim["comparison"], "against": described}} for claim in found]


def described_look(baseline: Baseline, look: Look, versions: Mapping[str, Json]) -> dict[str, Json]:
    """What a comparison says of the baseline, of the look, and of the ``versions`` of packages that differ."""
    differ = other_versions(versions, baseline.record.run.get("versions") or {})
    taken = {"alpha": look.alpha, "claims": sharing(baseline.record), "look": look.number, "looks": look.looks}
    return {**baseline.described(), **taken, **({"other_versions": differ} if differ else {})}
