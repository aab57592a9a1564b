"""Where measuring happens: store hit, or load -> measure -> store -> free, one checkpoint at a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..backends.spec import backend_provenance, is_loaded
from ..checkpoints.quiet import first_line
from ..checkpoints.refs import ModelRef
from ..errors import CheckpointError, NotInstalledError, StoreError, TuneshiftError
from ..measures.catalogue import Take
from ..plain import NOTHING, Json
from ..readings import Readings
from ..store.evidence import Evidence, EvidenceItem
from ..store.files import DamagedEvidence, EvidenceWarning, MissingEvidence
from ..store.store import Store
from .copies import copy_from_wider
from .costs import LOADING, Cost, Meter
from .failures import failure_log, free_memory, measure_failure
from .plan import Task
from .progress import silent_bars
from .provenance import provenance
from .settings import Settings, backend_of
from .steps import Step, steps

if TYPE_CHECKING:
    from ..backends.model import BackendModel
    from ..checkpoints.loading import Checkpoint
    from ..checkpoints.refs import LMBackend
    from .progress import Bars

ROUNDS = 3
"""Times that evidence is measured which a prune takes away before it is read."""
SMALL = 20_000_000
"""Parameters under which a model is measured on one CPU thread, and its attributions are published in
``Measure.small_chunk``: publishing takes some 10 ms, which a model of a million parameters takes for a prompt."""


@dataclass(kw_only=True)
class Engine:
    """Evidence on demand: from memory, from the store, or measured.

    A failure belongs to one checkpoint and measure: it is kept, raised again for whoever asks for that evidence, and
    the rest goes on. It is a TuneshiftError whatever a model, a driver or an allocator raised.
    """

    store: Store
    settings: Settings
    bars: Bars = silent_bars
    costs: list[Cost] = field(default_factory=list)
    """What this engine measured, in order."""
    _read: dict[str, Evidence] = field(default_factory=dict)
    _charged: set[str] = field(default_factory=set)
    _failures: dict[str, TuneshiftError] = field(default_factory=dict)

    def evidence(self, task: Task) -> Evidence:
        """Complete evidence of a task. Raises the TuneshiftError that kept it from being measured."""
        digest = task.key.digest
        for _ in range(ROUNDS):
            if digest in self._read:
                break
            self.complete([task])
            if digest in self._failures:
                raise self._failures[digest]
            with contextlib.suppress(MissingEvidence):  # a prune came between
                self._read.setdefault(digest, self.store.read(task.key))
        else:
            raise MissingEvidence(_pruned(task))
        return self._read[digest]

    def charge(self, tasks: Iterable[Task]) -> float:
        """Seconds of measuring that these tasks, and what they rest on, are the first to be charged for."""
        asked = {task.key.digest for step in steps(tasks) for task in step.tasks} - self._charged
        self._charged |= asked
        return sum(cost.seconds for cost in self.costs if cost.digest in asked)

    def forget(self) -> None:
        """Let go of the evidence that was read; the store still has it."""
        self._read.clear()

    def complete(self, tasks: Iterable[Task], *, keep: bool = True) -> None:
        """Measure what is missing of the tasks and of what they rest on. Failures are kept, not raised.

        ``keep``: whether evidence that is read on the way stays in memory; else never more than one checkpoint's does.
        """
        wanted = list(tasks)
        for _ in range(ROUNDS):
            left: list[Task] = []
            # What needs no weights comes after every checkpoint was freed: an annotator may be a model itself, which is
            # then loaded once, and a backend has its own.
            for loads in (True, False):
                for step in steps([t for t in wanted if t.key.digest not in self._failures]):
                    missing = [t for t in step.tasks if t.loads is loads and not self._settled(t)]
                    if missing:
                        left += self._measure(Step(ref=step.ref, tasks=tuple(missing)))
                    if not keep:
                        self.forget()
            if not left:
                return
            wanted = left
        self._failures.update({t.key.digest: MissingEvidence(_pruned(t)) for t in left})

    def _settled(self, task: Task) -> bool:
        """Whether nothing is left to measure of a task: it failed before, or its store cannot be read, or has it."""
        if task.key.digest in self._failures:
            return True
        try:
            return self._whole(task)
        except StoreError as error:
            self._failures[task.key.digest] = error
            return True

    def _whole(self, task: Task) -> bool:
        """Whether the store holds it, every checksum right. A damaged chunk is set aside here and measured again."""
        digest = task.key.digest
        if digest in self._read:
            return True
        if not self.store.status(task.key, task.ids).complete:
            return False
        try:
            self._read[digest] = self.store.read(task.key)
        except MissingEvidence:
            return False  # pruned since its status was read
        except DamagedEvidence as error:
            # The store has set the file aside; the session that follows measures that chunk again.
            warnings.warn(str(error), EvidenceWarning, stacklevel=2)
            return False
        return True

    def _measure(self, step: Step) -> list[Task]:
        """Measure a step's tasks; those that have to wait because what they rest on was pruned meanwhile."""
        left: list[Task] = []
        try:
            with ExitStack() as stack:
                loaded = _Loader(ref=step.ref, settings=self.settings, stack=stack, costs=self.costs)
                # A quantised checkpoint loads once for what takes its weights as stored, once for what does not. What
                # asks for plain weights may depend on the other kind, which never depends on it.
                ordered = sorted(step.tasks, key=lambda task: task.measure.plain)
                left += [t for t in ordered if not self._attempt(t, loaded)]
        except Exception as error:  # whatever freeing a checkpoint on a broken device raises
            # What was measured is stored, so no task failed; the next one that needs the device will say so.
            warnings.warn(f"{step.ref.name} could not be freed: {first_line(error)}", stacklevel=2)
        return left

    def _attempt(self, task: Task, loaded: _Loader) -> bool:
        """Fill a task; whatever goes wrong is kept as its failure, and the memory of it given back.

        False where it has to be tried again, because what it rests on is not there any more or was set aside.
        """
        try:
            self._fill(task, loaded)
        except (MissingEvidence, DamagedEvidence):
            return False
        except Exception as error:  # whatever models, drivers and allocators raise
            self._failures[task.key.digest] = measure_failure(error, task, self.store.root)
        else:
            with contextlib.suppress(OSError):
                failure_log(task, self.store.root).unlink(missing_ok=True)
            return True
        free_memory()
        return True

    def _fill(self, task: Task, loaded: _Loader) -> None:
        inputs = self._inputs(task)
        if copy_from_wider(task, self.store):
            return
        units = {unit.id: unit for unit in task.units}
        size = self._chunk_size(task)
        with self.store.session(task.key, task.ids, loaded.provenance(task), chunk_size=size) as session:
            missing = session.missing
            if not missing:
                return
            left = sum(len(ids) for _, ids in missing)
            label = f"{task.measure.name} {task.ref.name}"
            unit = task.measure.axis.removesuffix("s")
            with self.bars(label, len(task.ids), len(task.ids) - left, unit) as bar, self._metered(task) as meter:
                # Within the bar, as a large checkpoint loads for minutes.
                take = loaded.prepare(task)
                meter.apart += sum(cost.seconds for cost in self.costs[meter.before :])
                for number, ids in missing:
                    items = []
                    for item in take([units[i] for i in ids], [inputs.get(i) for i in ids]):
                        items.append(item)
                        bar.update(1)
                        meter.count(item)
                    session.write(number, items, loaded.computed(task))

    def _chunk_size(self, task: Task) -> int:
        """Items that are published together: one at a time takes longer than measuring them on a small model."""
        measure, memo = task.measure, self.settings.memo
        if not measure.small_chunk:
            return measure.chunk
        from ..checkpoints.inspection import inspect

        readings = Readings(None if memo is None else memo.with_name("readings.json"))
        return measure.small_chunk if inspect(task.ref, readings).parameters < SMALL else measure.chunk

    @contextmanager
    def _metered(self, task: Task) -> Iterator[Meter]:
        """What a task costs, kept even where it fails: the time is gone."""
        meter = Meter(before=len(self.costs))
        try:
            yield meter
        finally:
            self.costs.append(meter.cost(task))

    def _inputs(self, task: Task) -> dict[str, EvidenceItem]:
        """Items of what a task rests on. Raises its failure, and MissingEvidence where it was pruned."""
        if task.depends_on is None:
            return {}
        digest = task.depends_on.key.digest
        if digest in self._failures:
            raise self._failures[digest]
        if digest not in self._read:
            self._read[digest] = self.store.read(task.depends_on.key)
        return {item.id: item for item in self._read[digest].items}


def _pruned(task: Task) -> str:
    return (
        f"{task.measure.name} of {task.ref.name} was measured {ROUNDS} times and is gone each time it is read: "
        "something prunes the store while this run writes it. End that, and run again."
    )


@dataclass(kw_only=True)
class _Loader:
    """Loads a checkpoint when the first task needs it, and once more where a task wants its weights in another form;
    the stack frees it."""

    ref: ModelRef
    settings: Settings
    stack: ExitStack
    costs: list[Cost]
    """The engine's, where loading is put down."""
    checkpoint: Checkpoint | None = None
    answers: BackendModel | None = None
    refused: CheckpointError | None = None
    """Why it could not be loaded, for the tasks that follow."""
    held: ExitStack = field(default_factory=ExitStack)
    """Frees the checkpoint that is loaded, and what answers with it."""

    def prepare(self, task: Task) -> Take:
        """What takes the task's measure, on the checkpoint, loaded if the measure needs it, or behind its backend."""
        asked: Checkpoint | BackendModel | None = self._loaded(task) if task.loads else None
        if task.backend is not None:
            asked = self._answering(task.backend)
        return task.measure.prepare(asked, task.params, task.sources)

    def _loaded(self, task: Task) -> Checkpoint:
        if self.refused is not None:
            raise self.refused  # the next task would only read 14 GB to fail again
        plain = task.measure.plain
        wanted = "dequantised" if plain else "stored"
        if self.checkpoint is not None and self.checkpoint.form not in (None, wanted):
            self.checkpoint = self.answers = None
            self.held.close()
        if self.checkpoint is None:
            self.held = self.stack.enter_context(ExitStack())
            meter = Meter()
            try:
                self.checkpoint = self.held.enter_context(self._load(plain))
            except CheckpointError as error:
                self.refused = error
                raise
            self.costs.append(replace(meter.cost(task), measure=LOADING))
            self.held.enter_context(_fitting_threads(self.checkpoint))
        return self.checkpoint

    @contextmanager
    def _load(self, plain: bool) -> Iterator[Checkpoint]:
        from ..checkpoints.loading import load

        with ExitStack() as stack:
            try:
                loaded = stack.enter_context(
                    load(self.ref, dtype=self._dtype, device=self.settings.device, plain=plain)
                )
            except NotInstalledError as error:
                # Missing for the checkpoint itself, so that nothing at all is measured: a failure, where a package that
                # some findings want makes those not applicable.
                raise CheckpointError(str(error)) from error
            except CheckpointError as error:
                backend = backend_of(self.ref, self.settings)
                if backend is None or is_loaded(backend):
                    raise
                raise CheckpointError(
                    f"{error} Backend {backend.name!r} gives texts and sums alone: the rule adapter, which acts on "
                    "logits, attribution, findings on weights and what is compared with them need the weights in this "
                    "process."
                ) from error
            yield loaded

    def _answering(self, backend: LMBackend) -> BackendModel:
        if self.answers is None:
            from ..backends.start import answering

            self.answers = self.held.enter_context(
                answering(backend, self.ref, dtype=self._dtype, checkpoint=self.checkpoint)
            )
        return self.answers

    @property
    def _dtype(self) -> str:
        return self.ref.dtype or self.settings.dtype

    def computed(self, task: Task) -> Mapping[str, Json]:
        """How the last chunk was computed, as far as no key says it; nothing where this process computed none of it."""
        return self.checkpoint.computed if self.checkpoint is not None and task.loads else NOTHING

    def provenance(self, task: Task) -> dict[str, Json]:
        """Where and with what the evidence was made."""
        made = provenance(self.settings, self.ref, task.on)
        if task.backend is not None:
            made["backend"] = backend_provenance(task.backend, self.ref)
        return made


@contextmanager
def _fitting_threads(checkpoint: Checkpoint) -> Iterator[None]:
    """One thread for a small model on a CPU, restored afterwards: its products are too short to share out, and on a
    busy machine threads that wait for one another made a minute's run take five."""
    import torch

    threads = torch.get_num_threads()
    small = checkpoint.device.type == "cpu" and checkpoint.parameters < SMALL
    torch.set_num_threads(1 if small else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
