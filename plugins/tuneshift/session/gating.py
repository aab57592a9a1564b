"""A run of pytest and its baselines: what is checked before anything is measured, the comparison, and the saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..engine.provenance import versions
from ..errors import TuneshiftError, UsageError
from ..files import remove_leftovers, require_writable
from ..gate.baselines import Baseline, Baselines, Look
from ..gate.compare import check_comparable, check_margins
from ..gate.look import compared_at, described_look
from ..plain import Json
from ..run_record import RunRecord
from .describe import describe_pairs, describe_settings
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
        folder = asked.storage / asked.save
        try:
            require_writable(folder)
        except OSError as error:
            raise UsageError(
                f"--shift-save {asked.save}: {folder} cannot be written ({error.strerror or error}); name another "
                "folder with --shift-storage."
            ) from error
        remove_leftovers(folder)
    if asked.compare is None:
        if asked.margins:
            raise UsageError("--shift-margin belongs to --shift-compare=NAME, which is not given.")
        return
    baseline = storage.load(asked.compare)
    check_margins(asked.margins, [finding.id for finding in run.known_findings()])
    storage.require_a_look(baseline)
    check_comparable(describe_settings(run), describe_pairs(run), baseline.record, baseline.name)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The comparisons of one run with its baseline, a claim at a time: every claim's share of the error rate is known
    from the baseline and the ``look`` before any is measured."""

    storage: Baselines
    baseline: Baseline
    look: Look
    margins: Mapping[str, float]
    pairs: Mapping[str, Mapping[str, Json]]
    """Pairs of the run by name, as the record describes them."""

    def compared(self, claim: Mapping[str, Json]) -> dict[str, Json]:
        """The claim with its comparison. Raises UsageError as `gate.compare`."""
        margins = {name: margin for name, margin in self.margins.items() if name == claim["finding"]}
        pair = self.pairs[claim["pair"]]
        return compared_at([claim], [pair], self.baseline, versions=versions(), margins=margins, look=self.look)[0]

    def settled(self, claims: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
        """The claims of the whole run, whose look is written down; given back where none was compared."""
        look = self.storage.settle(self.baseline, self.look, claims)
        described = described_look(self.baseline, look, versions())
        return [{**claim, "comparison": {**claim["comparison"], "against": described}} for claim in claims]


def open_gate(run: RunSession, look: Look | None = None) -> Gate | None:
    """The gate of a run that names a baseline. Without a ``look``, which a controller gives its workers, it takes the
    next one: once a run. Raises UsageError where the budget is spent."""
    asked = run.options.gating
    if asked.compare is None:
        return None
    storage = Baselines(folder=asked.storage)
    baseline = storage.load(asked.compare)
    return Gate(
        storage=storage,
        baseline=baseline,
        look=look or storage.reserve(baseline, run.options.alpha),
        margins=asked.margins,
        pairs={str(pair["name"]): pair for pair in describe_pairs(run)},
    )


def saved(gating: Gating, record: RunRecord) -> tuple[list[str], bool]:
    """Save the run as the baseline that the options name; lines that say so, or why not, and whether it was not."""
    if gating.save is None:
        return [], False
    try:
        path = Baselines(folder=gating.storage).save(record, gating.save, overwrite=gating.overwrite, allow=OVERWRITE)
    except TuneshiftError as error:
        return [f"tuneshift: {error}"], True
    return [f"baseline {gating.save}: {path} ({len(record.claims)} claims)"], False
