"""A run of pytest and its baselines: what is checked before anything is measured, the comparison, and the saving."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..claims.finding import Finding
from ..engine.provenance import versions
from ..errors import TuneshiftError, UsageError, counted
from ..files import remove_leftovers, require_writable
from ..gate.baselines import Baseline, Baselines
from ..gate.compare import check_comparable, check_margins
from ..gate.look import Gated, compared_at, gated
from ..gate.rates import Look, has_effect, sharing
from ..gate.sight import planned_losses, require_power, sight, sight_text
from ..pairs import left_out
from ..parse import one_line
from ..plain import Json
from ..run_record import RunRecord
from .describe import describe_pairs, describe_settings
from .requests import Gating, Target
from .run import RunSession

OVERWRITE = "--shift-overwrite"
MIN_POWER = "--shift-min-power"


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
        for option, given in (("--shift-margin", asked.margins), (MIN_POWER, asked.min_power)):
            if given:
                raise UsageError(f"{option} belongs to --shift-compare=NAME, which is not given.")
        return
    baseline = storage.load(asked.compare)
    if nothing := without_effects(baseline.record):
        raise UsageError(f"Baseline {baseline.name!r} {nothing}: save one of a run whose claims apply.")
    check_margins(asked.margins, [finding.id for finding in run.known_findings()])
    pairs = describe_pairs(run)
    described = {**describe_settings(run), "alpha": run.options.alpha}
    check_comparable(described, pairs, baseline.record, baseline.name)
    shared_by = sharing(baseline.record, pairs, baseline.name)
    look = storage.next_look(baseline, run.options.alpha, shared_by)
    if asked.min_power:
        rows = planned_losses(baseline.record, asked.margins, claims=shared_by, alpha=look.alpha, shown=look.shown)
        require_power(rows, asked.min_power, MIN_POWER, baseline.name)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The comparisons of one run with its baseline, a claim at a time: every claim's share of the error rate is known
    from the baseline and the ``look`` before any is measured."""

    storage: Baselines
    baseline: Baseline
    look: Look
    shared_by: int
    asked: Gating
    pairs: Mapping[str, Mapping[str, Json]]
    """Pairs of the run by name, as the record describes them."""
    left_out: tuple[str, ...] = ()
    """Pairs of the file that ``--shift-pair`` does not name."""

    def compared(self, claim: Mapping[str, Json]) -> dict[str, Json]:
        """The claim with its comparison. Raises UsageError as `gate.compare`."""
        margins = {name: margin for name, margin in self.asked.margins.items() if name == claim["finding"]}
        pair = self.pairs[claim["pair"]]
        return compared_at([claim], [pair], self.baseline, versions=versions(), margins=margins, look=self.look,
                           shared_by=self.shared_by)[0]  # fmt: skip

    def finished(
        self, claims: Sequence[Mapping[str, Json]], errors: Sequence[Mapping[str, Json]],
        selection: Sequence[Sequence[str]] | None,
    ) -> Gated:  # fmt: skip
        """The claims of the whole run with the look that they count as, and what the gate says of them together."""
        look = self.look
        with contextlib.suppress(TuneshiftError):  # looks that cannot be read now are `spent`'s to say
            look = self.storage.counts_as(self.baseline, look, claims, self.shared_by)
        made = {str(claim["finding"]) for claim in claims}
        return gated(
            self.baseline, look, claims, errors, list(self.pairs.values()), selection=selection,
            left_out=self.left_out, versions=versions(),
            margins={name: margin for name, margin in self.asked.margins.items() if name in made},
            allow_missing=self.asked.allow_missing,
        )  # fmt: skip

    def spent(self, claims: Sequence[Mapping[str, Json]]) -> list[str]:
        """Spend the look of a run whose record is written; a line that says why it could not be, if so."""
        try:
            look = self.storage.counts_as(self.baseline, self.look, claims, self.shared_by)
            self.storage.take(self.baseline, look, claims, self.shared_by)
        except TuneshiftError as error:
            return [f"tuneshift: {error}"]
        return []

    def short_of_power(self, found: Gated) -> str | None:
        """Why the finished comparison sees less than was asked for; None where it does not."""
        try:
            require_power(found.rows, self.asked.min_power, MIN_POWER, self.baseline.name)
        except UsageError as error:
            return str(error)
        return None


def open_gate(run: RunSession, look: Look | None = None) -> Gate | None:
    """The gate of a run that names a baseline. Without a ``look``, which a controller gives its workers, it decides at
    the next one. Raises UsageError where the budget is spent."""
    asked = run.options.gating
    if asked.compare is None:
        return None
    storage = Baselines(folder=asked.storage)
    baseline = storage.load(asked.compare)
    pairs = {str(pair["name"]): pair for pair in describe_pairs(run)}
    shared_by = sharing(baseline.record, list(pairs.values()), baseline.name)
    return Gate(
        storage=storage,
        baseline=baseline,
        look=look or storage.next_look(baseline, run.options.alpha, shared_by),
        shared_by=shared_by,
        asked=asked,
        pairs=pairs,
        left_out=pairs_left_out(run),
    )


def selected(run: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> list[list[str]] | None:
    """The places (pair, finding, prompt set, group) that a run asked, where these are a part of what it could ask;
    None for all that the catalogue has, on all pairs of the file."""

    def places(claims: Sequence[tuple[Finding, Target]]) -> list[list[str]]:
        return [[target.pair.name, finding.id, target.on, target.group] for finding, target in claims]

    asked = places(wanted)
    left_out = [place for place in places(run.catalogue_claims) if place not in asked]
    return asked if left_out or run.options.pair_names else None


def pairs_left_out(run: RunSession) -> tuple[str, ...]:
    """Names of the pairs that ``--shift-pair`` leaves out; none where the file cannot be read any more, so that their
    claims are missing."""
    asked = run.options
    try:
        return left_out(pairs_file=asked.pairs_file, names=asked.pair_names, here=asked.here)
    except TuneshiftError:
        return ()


def saved(gating: Gating, record: RunRecord) -> tuple[list[str], bool]:
    """Save the run as the baseline that the options name; lines that say so, or why not, and whether it was not."""
    if gating.save is None:
        return [], False
    storage = Baselines(folder=gating.storage)
    try:
        path = storage.save(record, gating.save, overwrite=gating.overwrite, allow=OVERWRITE)
    except TuneshiftError as error:
        return [f"tuneshift: {error}"], True
    return [
        f"baseline {gating.save}: {path} ({counted(len(record.claims), 'claim')})",
        *planned_text(storage.load(gating.save), float(record.run["alpha"])),
    ], False


def without_effects(record: RunRecord) -> str | None:
    """Why no run can be compared with a record, as the end of a sentence: none of its claims has an effect, as in a
    run of two checkpoints that are one. None where a claim has one."""
    if any(map(has_effect, record.claims)):
        return None
    reasons = sorted({one_line(str(claim["reason"])) for claim in record.claims})
    return f"has no claim with an effect, so that nothing can be compared with it ({(reasons or ['no claims'])[0]})"


def planned_text(baseline: Baseline, alpha: float) -> list[str]:
    """What a comparison with a baseline is planned to see, as a line, or that there is nothing to compare with; none
    without claims that can move."""
    if nothing := without_effects(baseline.record):
        return [f"baseline {baseline.name} {nothing}"]
    shared_by = sharing(baseline.record)
    look = Baselines(folder=baseline.path.parent.parent).next_look(baseline, alpha, shared_by)
    rows = planned_losses(baseline.record, {}, claims=shared_by, alpha=look.alpha, shown=look.shown)
    said = sight_text(sight(rows))
    return [f"baseline {baseline.name}: {said}"] if said else []
