"""A run of pytest and its baselines: what is checked before anything is measured, the comparison, and the saving."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.provenance import versions
from ..errors import TuneshiftError, UsageError
from ..gate.baselines import Baselines
from ..gate.compare import check_comparable, check_margins
from ..gate.look import against
from ..plain import Json
from ..run_record import RunRecord
from .requests import Gating
from .run import RunSession

OVERWRITE = "--shift-overwrite"


def check_gating(run: RunSession) -> None:
    """Look for all that can be wrong with the baselines that the options name before weights are loaded.

    Raises UsageError: a baseline that is missing, damaged, foreign or spent, a run that cannot be compared with it, a
    name that is taken.
    """
    asked = run.options.gating
    storage = Baselines(folder=asked.storage)
    if asked.save is not None:
        if asked.save == asked.compare:
            raise UsageError(
                f"--shift-save and --shift-compare both name {asked.save!r}: a run that regressed would replace what "
                "it regressed from. Compare first; `tuneshift bless RUN.json` promotes a run on purpose."
            )
        storage.require_free(asked.save, overwrite=asked.overwrite, allow=OVERWRITE)
    if asked.compare is None:
        if asked.margins:
            raise UsageError("--shift-margin belongs to --shift-compare=NAME, which is not given.")
        return
    baseline = storage.load(asked.compare)
    check_margins(asked.margins, [finding.id for finding in run.known_findings()])
    storage.require_a_look(baseline)
    check_comparable(run.describe_settings(), run.describe(), baseline.record, baseline.name)


def compared(run: RunSession, claims: Sequence[dict[str, Json]]) -> list[dict[str, Json]]:
    """All claims of a run with their comparisons, where the run has a baseline; else as they are."""
    asked = run.options.gating
    if asked.compare is None:
        return list(claims)
    storage = Baselines(folder=asked.storage)
    baseline = storage.load(asked.compare)
    wanted = {name: margin for name, margin in asked.margins.items() if name in {c["finding"] for c in claims}}
    alpha = run.options.alpha
    return against(storage, baseline, claims, run.describe(), versions=versions(), margins=wanted, alpha=alpha)


def saved(gating: Gating, record: RunRecord) -> list[str]:
    """Save the run as the baseline that the options name; lines that say so, or why not."""
    if gating.save is None:
        return []
    try:
        path = Baselines(folder=gating.storage).save(record, gating.save, overwrite=gating.overwrite, allow=OVERWRITE)
    except TuneshiftError as error:
        return [f"tuneshift: {error}"]
    return [f"baseline {gating.save}: {path} ({len(record.claims)} claims)"]
