"""One run: its pairs, prompt sets, settings, store and engine, and how a claim gets its evidence. Knows no pytest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..backends.spec import require_backend
from ..checkpoints.dequantised import require_runnable
from ..checkpoints.inspection import CheckpointInfo, inspect
from ..checkpoints.quantized import not_plain
from ..checkpoints.refs import ModelRef
from ..claims.claim import Claim
from ..claims.decisions import Exposure, exposure, family_size
from ..claims.expectations import Place, check_not_stale, expected_outcome, load_expectations
from ..claims.finding import Expectation, Finding
from ..claims.view import EvidenceName, Items, NotApplicable
from ..engine.engine import Engine
from ..engine.plan import Planner, Task, reads_weights
from ..engine.second import BATCH_SHARE, can_be_measured_again, second_pair, second_settings
from ..engine.settings import Settings
from ..engine.steps import Line, plan_lines
from ..errors import NotMeasurableError, PromptError, TuneshiftError
from ..measures.catalogue import ANNOTATION, ATTRIBUTION, LIKELIHOOD
from ..measures.draws import unrankable
from ..measures.params import FORMATS, measure_of, split_format
from ..pairs import ModelPair, resolve_pairs
from ..plain import Json
from ..prompts.sets import load_prompts
from ..store.evidence import EvidenceItem
from ..store.recorded import recorded
from ..store.store import Store
from .context import context_of
from .growing import EarlierRun
from .raters import Raters
from .replay import not_made, not_recorded, recorded_items, recorded_name, replayed_settings
from .requests import MAKE, RESPONSES, Options, Target
from .trust import JudgeAgreements, annotator_agreement


@dataclass(kw_only=True)
class RunSession:
    """State of one run in one process. ``known_findings`` gives every finding that an expectation may name; ``given``
    are the pairs of a script, which take the place of those that the options name."""

    options: Options
    known_findings: Callable[[], Sequence[Finding]]
    given: tuple[ModelPair, ...] | None = None
    earlier: EarlierRun | None = None
    """The run whose record this one will replace."""
    _inspected: dict[ModelRef, CheckpointInfo] = field(default_factory=dict)
    _judge_agreements: JudgeAgreements = field(default_factory=JudgeAgreements)
    _notes: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def pairs(self) -> tuple[ModelPair, ...]:
        """The pairs of the run. Raises PairError."""
        if self.given is not None:
            return self.given
        asked = self.options
        return resolve_pairs(
            base=asked.base,
            tuned=asked.tuned,
            pairs_file=asked.pairs_file,
            names=asked.pair_names,
            prompts=asked.prompts,
            here=asked.here,
            evidence=asked.evidence,
            store=asked.store,
        )

    @cached_property
    def settings(self) -> Settings:
        """How measures are taken, or were where the evidence is recorded. Raises UsageError where they differ."""
        return replayed_settings(self.options.settings, self.pairs)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Every pair, prompt set and group. Raises PairError and PromptError, also for another set of the name of one
        that a finding brings: records and gates know a set of a pair by its name."""
        found = []
        brought = {finding.prompt_set for finding in self.known_findings()} - {""}
        for pair in self.pairs:
            for source in pair.prompts:
                prompts = load_prompts(source, pair=pair.name)
                if prompts.name in brought and prompts.sha256 != load_prompts(prompts.name).sha256:
                    raise PromptError(
                        f"pair {pair.name!r}: {prompts.source} has the name of the set {prompts.name!r} that findings "
                        "bring, and other prompts; give the file another name."
                    )
                found += [Target(pair=pair, prompts=prompts, group=group) for group in prompts.groups]
        return tuple(found)

    @cached_property
    def weight_targets(self) -> tuple[Target, ...]:
        """Every pair, for findings on weights. Raises PairError."""
        return tuple(Target(pair=pair, prompts=None, group="all") for pair in self.pairs)

    def targets_of(self, finding: Finding) -> tuple[Target, ...]:
        """What a finding is tested on: every pair where it reads weights alone or brings its prompt set, else every
        prompt set and group. Raises PairError and PromptError."""
        if finding.prompt_set:
            prompts = load_prompts(finding.prompt_set)
            return tuple(Target(pair=pair, prompts=prompts, group="all", brought=True) for pair in self.pairs)
        return self.weight_targets if reads_weights(finding) else self.targets

    @cached_property
    def store(self) -> Store:
        """The evidence store."""
        return Store(self.options.store)

    @cached_property
    def planner(self) -> Planner:
        """Needs to tasks."""
        return Planner(settings=self.settings)

    @cached_property
    def second_planner(self) -> Planner:
        """Needs to tasks of the second measurement."""
        return Planner(settings=self.settings, batch_share=BATCH_SHARE)

    @cached_property
    def raters(self) -> Raters:
        """Judges and annotators."""
        return Raters(settings=self.settings)

    @cached_property
    def engine(self) -> Engine:
        """Tasks to evidence."""
        return Engine(store=self.store, settings=self.settings)

    @cached_property
    def expectations(self) -> dict[str, tuple[Expectation, ...]]:
        return {pair.name: self.declared(pair) for pair in self.pairs}

    def declared(self, pair: ModelPair) -> tuple[Expectation, ...]:
        """The outcomes that a pair's file declares now. Raises ExpectationError, for stale ones too.

        Not for stale ones where the run rewrites the file and takes them out, nor where ``--shift-prompts`` asks other
        prompt sets than those that the file speaks of.
        """
        if pair.expectations is None:
            return ()
        if self.options.update_expectations and not os.path.exists(pair.expectations):
            return ()
        found = load_expectations(pair.expectations, [finding.id for finding in self.known_findings()])
        if found and not (self.options.update_expectations or self.options.prompts):
            check_not_stale(found, self.places(pair), path=pair.expectations, pair=pair.name)
        return found

    def places(self, pair: ModelPair) -> list[Place]:
        """Where the claims of a pair's complete run stand."""
        return [
            Place(finding.id, target.on, target.group)
            for finding in self.known_findings()
            for target in self.targets_of(finding)
            if target.pair.name == pair.name
        ]

    def inspected(self, ref: ModelRef) -> CheckpointInfo:
        """What the checkpoint's files say, read once in a run."""
        if ref not in self._inspected:
            self._inspected[ref] = inspect(ref, self.planner.readings)
        return self._inspected[ref]

    def needs(self, finding: Finding, target: Target) -> tuple[tuple[str, str], ...]:
        """A finding's needs without those that feed readings which the run does not ask for on a target."""
        return tuple((role, need) for role, need in finding.needs if self._asks(need, role, target))

    def _asks(self, need: str, role: str, target: Target) -> bool:
        usual, asked_in = split_format(need)
        pair, mode = target.pair, self.settings.base_format
        ref = pair.checkpoint(role)
        if asked_in is None:
            return True
        if mode == "none" or ref is None:
            return False
        if ref.evidence is not None:
            return recorded(ref).holds(need, target.prompts)
        if mode == "generation" and measure_of(usual) is ATTRIBUTION:
            return False
        # A format that writes as the pair's does would only say the same again.
        return self.planner.chat(pair, ref, asked_in) != self.planner.chat(pair, ref)

    def tasks(self, finding: Finding, target: Target) -> list[Task]:
        """The tasks behind a finding's needs on a target; none for recorded evidence and where it cannot apply."""
        if self.inapplicable(finding, target) is not None:
            return []
        made = (
            self.planner.task(target.pair, role, need, target.prompts) for role, need in self.needs(finding, target)
        )
        return [task for task in made if task is not None]

    def second_tasks(self, finding: Finding, target: Target) -> list[Task]:
        """The tasks of a finding's second measurement; none where no noise floor is asked for or can be taken."""
        if not self._takes_noise_floor(finding, target):
            return []
        pair = second_pair(target.pair, self.settings.dtype)
        made = (
            self.second_planner.task(pair, role, need, target.prompts) for role, need in self.needs(finding, target)
        )
        return [task for task in made if task is not None]

    def _takes_noise_floor(self, finding: Finding, target: Target) -> bool:
        if not self.options.noise_floor or self.inapplicable(finding, target) is not None:
            return False
        return can_be_measured_again(finding, target.pair)

    def family_size(self, finding: Finding) -> int:
        """How many findings share the error rate of a finding's family."""
        return family_size(finding, self.known_findings())

    def exposure(self, wanted: Iterable[tuple[Finding, Target]]) -> Exposure:
        """How often these claims spend the error rate, without those that are known not to apply."""
        return exposure(
            (
                (finding.family, self.family_size(finding), target.pair.name, target.on, target.group)
                for finding, target in wanted
                if self.inapplicable(finding, target) is None
            ),
            self.options.alpha,
        )

    @property
    def catalogue_claims(self) -> list[tuple[Finding, Target]]:
        """Every claim of the shipped catalogue on the pairs of the run."""
        return [(finding, target) for finding in self.known_findings() for target in self.targets_of(finding)]

    def inapplicable(self, finding: Finding, target: Target) -> str | None:
        """Why a finding cannot be decided on a target, as far as that is known before anything is measured."""
        attributes = any(need.startswith(ATTRIBUTION.name) for _, need in finding.needs)
        if missing := self.raters.not_installed(finding, target, self.planner.word_space(target.pair)):
            return missing
        if unmade := not_made(finding, target):
            return unmade
        for role, need in finding.needs:
            ref = target.pair.checkpoint(role)
            if ref is None:
                return f"the pair names no {role} checkpoint; {MAKE.get(role, 'name it in the pair file')}"
            if lacking := not_recorded(finding, target, role, need):
                return lacking
            plain = any(measure_of(need).plain for own, need in finding.needs if own == role)
            if plain and ref.evidence is None and (packed := not_plain(ref.name, self.inspected(ref).quantization)):
                return packed
            if ref.adapter is not None and (attributes or reads_weights(finding)):
                kind = self.inspected(ref).prompt_learning
                if kind is not None:
                    return (
                        f"{ref.name} is a {kind} adapter: learned tokens before the text, which no published finding "
                        "counts among prompt or weights; generation, likelihood and judging take it"
                    )
        ranks = target.prompts is not None and any(need == LIKELIHOOD.name for _, need in finding.needs)
        return unrankable(target.prompts.prompts) if ranks and target.prompts else None

    def plan(self, wanted: Iterable[tuple[Finding, Target]]) -> tuple[Line, ...]:
        """Every task of the wanted claims in running order, with what is stored of it."""
        claims = list(wanted)
        first = plan_lines([t for finding, target in claims for t in self.tasks(finding, target)], self.store)
        second = [t for finding, target in claims for t in self.second_tasks(finding, target)]
        return first + plan_lines(second, self.store, again=True)

    def reach(self, wanted: Iterable[tuple[Finding, Target]]) -> None:
        """Look for what would keep backends from answering, where evidence is missing that they compute.

        Quantised checkpoints that have to be loaded for it need a package, and some a GPU.

        Raises UsageError and EndpointError as `require_backend`, NotInstalledError and CheckpointError as
        `require_runnable`, before anything is measured.
        """
        missing = [line.task for line in self.plan(wanted) if line.progress.stored < line.progress.total]
        for ref in dict.fromkeys(task.ref for task in missing if task.loads):
            info = self.inspected(ref)
            require_runnable(ref.name, info.folder, info.quantization)
        for backend in dict.fromkeys(task.backend for task in missing if task.backend is not None):
            require_backend(backend)

    def measure(self, wanted: Iterable[tuple[Finding, Target]]) -> None:
        """Measure what is missing for the wanted claims. Failures stay with the claims that need the evidence.

        All pairs together, so that a checkpoint that several share loads once; what is read of one pair's evidence
        stays in memory for its tests only where there is no other pair.
        """
        claims = list(wanted)
        tasks = [t for finding, target in claims for t in self.tasks(finding, target)]
        second = [t for finding, target in claims for t in self.second_tasks(finding, target)]
        alone = len({target.pair.name for _, target in claims}) <= 1
        self.engine.complete([*tasks, *second], keep=alone)

    def claim(self, finding: Finding, target: Target, *, conclude: Callable[[dict[str, Json]], None]) -> Claim:
        """The claim of a finding on a target, which rests on its own evidence alone."""
        mode = self.settings.response
        # The planner takes references as the shared response where every prompt of the set has one, in any group.
        asked = target.prompts.prompts if target.prompts else ()
        shared = "reference" if all(p.reference for p in asked) else "tuned"
        other = shared if mode == "own" else "own"
        name, space = target.on, self.planner.word_space(target.pair)
        return Claim(
            finding=finding,
            pair=target.pair,
            prompts=target.members,
            prompt_set=name,
            group=target.group,
            alpha=self.options.alpha,
            family_size=self.family_size(finding),
            items=self._items(finding, target, target.pair, self.planner),
            evidence_name=self._evidence_name(target),
            second=self._second(finding, target),
            expected=expected_outcome(self.expectations[target.pair.name], finding.id, name, target.group),
            responses=(RESPONSES[mode], RESPONSES[other]),
            conclude=conclude,
            context=context_of(self, finding, target),
            word_vectors=space,
            judges=self.raters.judges(target, space),
            base_formats=self._base_formats(finding, target),
            judge_agreement=self._judge_agreements,
            grown=lambda: self.earlier.grown(finding, target, self.planner.fingerprint) if self.earlier else None,
            agreement=lambda: self._agreement(finding, target),
        )

    def _base_formats(self, finding: Finding, target: Target) -> Mapping[str, str]:
        """Other formats that the base is asked in for readings, in words."""
        named = {split_format(need)[1] for _, need in self.needs(finding, target)}
        return {name: words for name, words in FORMATS.items() if name in named}

    def _agreement(self, finding: Finding, target: Target) -> Mapping[str, Json] | None:
        """How the run's annotator agrees with lists labelled by hand, for findings that rest on it and can apply."""
        rests = any(need == ANNOTATION.name for _, need in finding.needs)
        if not rests or self.inapplicable(finding, target) is not None:
            return None
        if target.pair.recorded is not None:
            return target.pair.recorded.annotator_agreement
        return annotator_agreement(self.settings.annotator, self.planner.word_space(target.pair))

    def _second(self, finding: Finding, target: Target) -> tuple[Items, str] | None:
        """Evidence of the second measurement and what is other in it, where a noise floor is taken."""
        if not self._takes_noise_floor(finding, target):
            return None
        dtype = self.settings.dtype
        pair = second_pair(target.pair, dtype)
        batches = any("batch" in task.params for task in self.second_tasks(finding, target))
        words = second_settings(finding, target.pair, dtype, batches=batches)
        return self._items(finding, target, pair, self.second_planner), words

    def _items(self, finding: Finding, target: Target, pair: ModelPair, planner: Planner) -> Items:
        tasks: dict[tuple[str, str], Task | None] = {}
        read: dict[tuple[str, str], Mapping[str, EvidenceItem] | None] = {}

        def items(role: str, need: str) -> Mapping[str, EvidenceItem] | None:
            if reason := self.inapplicable(finding, target):
                raise NotApplicable(reason)
            ref = pair.checkpoint(role)
            if ref is not None and ref.evidence is not None:
                if (role, need) not in read:
                    read[role, need] = recorded_items(planner, target, ref, need)
                return read[role, need]
            if (role, need) not in tasks:
                tasks[role, need] = planner.task(pair, role, need, target.prompts)
            task = tasks[role, need]
            try:
                return None if task is None else {i.id: i for i in self.engine.evidence(task).items}
            except NotMeasurableError as error:
                raise NotApplicable(str(error)) from error
            except TuneshiftError as error:
                if split_format(need)[1] is None:
                    raise
                # What only a reading rests on takes no verdict with it; the reading says why it is not there.
                raise NotApplicable(f"not measured: {error}") from error

        return items

    def _evidence_name(self, target: Target) -> EvidenceName:
        """Names pieces of evidence by content: the key of what is measured, the hash of what was recorded."""

        def name(role: str, need: str) -> str | None:
            ref = target.pair.checkpoint(role)
            if ref is None:
                return None
            if ref.evidence is not None:
                return recorded_name(self.planner, target, ref, need)
            task = self.planner.task(target.pair, role, need, target.prompts)
            return None if task is None else task.key.digest

        return name

    def note(self, pair: ModelPair, lines: Iterable[str]) -> None:
        """Keep what a check found of a pair that is allowed and worth knowing."""
        self._notes[pair.name] = [*self._notes.get(pair.name, []), *lines]

    def notes(self, pair: ModelPair) -> list[str]:
        """What `checks.check_run` found of a pair that is allowed and worth knowing, or the run that was recorded."""
        told = () if pair.recorded is None else pair.recorded.notes
        return list(dict.fromkeys([*told, *self._notes.get(pair.name, [])]))
