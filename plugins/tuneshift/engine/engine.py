"""Where measuring happens: store hit, or load -> measure -> store -> free, one checkpoint at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..backends.spec import backend_provenance, is_loaded
from ..checkpoints.refs import ModelRef
from ..errors import CheckpointError, MeasureError, TuneshiftError
from ..measures.catalogue import Take
from ..plain import NOTHING, Json
from ..store.evidence import Evidence, EvidenceItem
from ..store.files import DamagedEvidence, EvidenceWarning
from ..store.store import Store
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

SMALL = 20_000_000
"""Parameters under which a model is measured on one CPU thread."""


@dataclass(kw_only=True)
class Engine:
    """Evidence on demand: from memory, from the store, or measured.

    A failure belongs to one checkpoint and measure: it is kept, raised again for whoever asks for that evidence, and
    the rest goes on.
    """

    store: Store
    settings: Settings
    bars: Bars = silent_bars
    _read: dict[str, Evidence] = field(default_factory=dict)
    _failures: dict[str, TuneshiftError] = field(default_factory=dict)

    def evidence(self, task: Task) -> Evidence:
        """Complete evidence of a task. Raises the TuneshiftError that kept it from being measured."""
        digest = task.key.digest
        if digest not in self._read:
            self.complete([task])
            if digest in self._failures:
                raise self._failures[digest]
            self._read[digest] = self.store.read(task.key)
        return self._read[digest]

    def forget(self) -> None:
        """Let go of the evidence that was read; the store still has it."""
        self._read.clear()

    def complete(self, tasks: Iterable[Task], *, keep: bool = True) -> None:
        """Measure what is missing of the tasks and of what they rest on. Failures are kept, not raised.

        ``keep``: whether evidence that is read on the way stays in memory; else never more than one checkpoint's does.
        """
        wanted = [t for t in tasks if t.key.digest not in self._failures]
        # What needs no weights comes after every checkpoint was freed: an annotator may be a model itself, which is
        # then loaded once, and a backend has its own.
        for loads in (True, False):
            for step in steps(wanted):
                missing = tuple(t for t in step.tasks if t.loads is loads and not self._whole(t))
                if missing:
                    self._measure(Step(ref=step.ref, tasks=missing))
                if not keep:
                    self.forget()

    def _whole(self, task: Task) -> bool:
        """Whether the store holds it, every checksum right. A damaged chunk is set aside here and measured again."""
        digest = task.key.digest
        if digest in self._read:
            return True
        if not self.store.status(task.key, task.ids).complete:
            return False
        try:
            self._read[digest] = self.store.read(task.key)
        except DamagedEvidence as error:
            # The store has set the file aside; the session that follows measures that chunk again.
            warnings.warn(str(error), EvidenceWarning, stacklevel=2)
            return False
        return True

    def _measure(self, step: Step) -> None:
        with ExitStack() as stack:
            loaded = _Loader(ref=step.ref, settings=self.settings, stack=stack)
            for task in step.tasks:
                try:
                    self._fill(task, loaded)
                except TuneshiftError as error:
                    self._failures[task.key.digest] = error

    def _fill(self, task: Task, loaded: _Loader) -> None:
        inputs = self._inputs(task)
        units = {unit.id: unit for unit in task.units}
        with self.store.session(task.key, task.ids, loaded.provenance(task), chunk_size=task.measure.chunk) as session:
            missing = session.missing
            if not missing:
                return
            take = loaded.prepare(task)
            left = sum(len(ids) for _, ids in missing)
            label = f"{task.measure.name} {task.ref.name}"
            unit = task.measure.axis.removesuffix("s")
            with self.bars(label, len(task.ids), len(task.ids) - left, unit) as bar:
                for number, ids in missing:
                    items = []
                    for item in take([units[i] for i in ids], [inputs.get(i) for i in ids]):
                        items.append(item)
                        bar.update(1)
                    session.write(number, items, loaded.computed(task))

    def _inputs(self, task: Task) -> dict[str, EvidenceItem]:
        if task.depends_on is None:
            return {}
        return {item.id: item for item in self.evidence(task.depends_on).items}


@dataclass(kw_only=True)
class _Loader:
    """Loads a checkpoint when the first task needs it; the stack frees it."""

    ref: ModelRef
    settings: Settings
    stack: ExitStack
    checkpoint: Checkpoint | None = None
    answers: BackendModel | None = None

    def prepare(self, task: Task) -> Take:
        """What takes the task's measure, on the checkpoint, loaded if the measure needs it, or behind its backend."""
        asked: Checkpoint | BackendModel | None = self._loaded() if task.loads else None
        if task.backend is not None:
            asked = self._answering(task.backend)
        try:
            return task.measure.prepare(asked, task.params, task.sources)
        except (RuntimeError, ValueError) as error:
            raise MeasureError(f"{task.measure.name} of {self.ref.name}: {error}") from error

    def _loaded(self) -> Checkpoint:
        if self.checkpoint is None:
            from ..checkpoints.loading import load

            try:
                self.checkpoint = self.stack.enter_context(
                    load(self.ref, dtype=self._dtype, device=self.settings.device)
                )
            except CheckpointError as error:
                backend = backend_of(self.ref, self.settings)
                if backend is None or is_loaded(backend):
                    raise
                raise CheckpointError(
                    f"{error} Backend {backend.name!r} gives texts and sums alone: the rule adapter, which acts on "
                    "logits, attribution, findings on weights and what is compared with them need the weights in this "
                    "process."
                ) from error
            self.stack.enter_context(_fitting_threads(self.checkpoint))
        return self.checkpoint

    def _answering(self, backend: LMBackend) -> BackendModel:
        if self.answers is None:
            from ..backends.start import answering

            self.answers = self.stack.enter_context(
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
        made = provenance(self.settings, self.ref)
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
