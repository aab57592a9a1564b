"""Store hit, or load, measure, store and free: with a counting measure in place of a model's."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tuneshift.checkpoints.loading
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.engine.copies import stored
from tuneshift.engine.engine import Engine
from tuneshift.engine.plan import Task
from tuneshift.engine.progress import bars_on
from tuneshift.engine.settings import Settings
from tuneshift.errors import CheckpointError, MeasureError, NotInstalledError, StoreError
from tuneshift.measures.catalogue import Measure
from tuneshift.prompts.prompt import Prompt, PromptSet
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.files import EvidenceWarning
from tuneshift.store.session import Progress
from tuneshift.store.store import Store

PROMPTS = PromptSet(
    name="set",
    source="",
    prompts=tuple(Prompt(id=f"p{i}", prompt="Do.", instruction_spans=((0, 3),)) for i in range(7)),
)


class Counting:
    """A measure that says how long a prompt's id is, and counts what it was asked."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.dtypes: list[str] = []
        self.forms: list[str | None] = []
        self.quantised = False
        self.asked: list[str] = []
        self.given: list[object] = []
        self.loaded = 0
        self.fail_at: str | None = None
        self.failure: Exception | None = None

    def prepare(self, checkpoint, params, sources):
        self.given.append(checkpoint)

        def take(prompts, inputs):
            for prompt, given in zip(prompts, inputs, strict=True):
                if prompt.id == self.fail_at:
                    raise self.failure or MeasureError(f"cannot measure {prompt.id}")
                self.asked.append(prompt.id)
                base = 0 if given is None else given.arrays["x"][0]
                yield EvidenceItem(id=prompt.id, arrays={"x": np.array([base + 1.0])})

        return take


@pytest.fixture
def counting(monkeypatch) -> Counting:
    made = Counting()

    @contextlib.contextmanager
    def load(ref, *, dtype, device, plain):
        made.loads.append(ref.name)
        made.dtypes.append(dtype)
        if ref.name == "broken":
            raise CheckpointError("broken holds NaN")
        made.loaded += 1
        form = ("dequantised" if plain else "stored") if made.quantised else None
        made.forms.append(form)
        yield SimpleNamespace(
            device=SimpleNamespace(type="cpu"), parameters=1, form=form, computed={"device": f"cpu:{made.loaded}"}
        )
        made.loaded -= 1

    monkeypatch.setattr(tuneshift.checkpoints.loading, "load", load)
    monkeypatch.setattr(Measure, "prepare", lambda self, *given: made.prepare(*given))
    return made


def task(
    name: str = "one",
    measure: str = "counting",
    depends_on: Task | None = None,
    loads: bool = True,
    plain: bool = False,
) -> Task:
    key = EvidenceKey(measure=measure, version=1, params={}, checkpoint=name, dtype="float32", prompts=PROMPTS.sha256)
    return Task(
        ref=ModelRef(name=name, model=name),
        measure=Measure(name=measure, version=1, chunk=2, preparation="", loads=loads, plain=plain),
        params={},
        units=PROMPTS.prompts,
        on=PROMPTS.name,
        key=key,
        depends_on=depends_on,
    )


def engine(folder: Path) -> Engine:
    return Engine(store=Store(folder), settings=Settings())


def test_how_a_checkpoint_computed_is_recorded_beside_its_chunks(counting, tmp_path):
    first = task("one", "a")
    made = engine(tmp_path)
    made.complete([task("one", "b", depends_on=first, loads=False)])
    assert made.evidence(first).provenance["device"] == "cpu:1"  # and not what was asked for, "auto"
    assert set(made.evidence(first).provenance["versions"]) >= {"tuneshift", "torch", "transformers", "tokenizers"}
    assert made.evidence(task("one", "b", depends_on=first, loads=False)).provenance["device"] == "auto"


def test_a_large_checkpoints_items_are_published_one_at_a_time_and_a_small_ones_together(
    counting, tmp_path, monkeypatch
):
    """A kill loses what is not published: of a model of billions of parameters minutes an item."""
    sizes = {"large": 20_000_000, "small": 19_999_999}
    monkeypatch.setattr(
        "tuneshift.checkpoints.inspection.inspect", lambda ref, readings: SimpleNamespace(parameters=sizes[ref.name])
    )
    for name, lost in (("large", 0), ("small", 1)):
        measure = Measure(name="a", version=1, chunk=1, small_chunk=2, preparation="")
        wanted = replace(task(name, "a"), measure=measure)
        counting.fail_at = "p3"
        made = engine(tmp_path)
        made.complete([wanted])
        assert made.store.status(wanted.key, wanted.ids).stored == 3 - lost
        counting.fail_at = None
        assert len(engine(tmp_path).evidence(wanted).items) == 7


def test_evidence_that_holds_more_is_cut_down_without_loading(counting, tmp_path, monkeypatch):
    wide = task("one", "a")
    narrow = replace(wide, key=replace(wide.key, params={"some": 1}), params={"some": 1}, wider=(wide.key,))
    monkeypatch.setattr(
        Measure, "narrow", lambda self, item, params: replace(item, arrays={"x": item.arrays["x"] * params["some"] + 5})
    )
    made = engine(tmp_path)
    made.evidence(wide)
    assert stored(narrow, made.store) == Progress(stored=7, total=7)
    counting.asked.clear()
    counting.loads.clear()
    found = made.evidence(narrow)
    assert (counting.loads, counting.asked) == ([], [])
    assert [item.arrays["x"][0] for item in found.items] == [6.0] * 7
    assert found.provenance["narrowed_from"] == wide.key.digest
    # And never the other way round.
    other = engine(tmp_path / "other")
    other.evidence(narrow)
    assert counting.loads == ["one"]
    other.evidence(wide)
    assert counting.loads == ["one", "one"]
    assert "narrowed_from" not in other.evidence(wide).provenance


def test_wider_evidence_that_is_not_whole_or_damaged_is_not_used(counting, tmp_path):
    wide = task("one", "a")
    narrow = replace(wide, key=replace(wide.key, params={"some": 1}), params={"some": 1}, wider=(wide.key,))
    made = engine(tmp_path)
    made.evidence(wide)
    folder = tmp_path / "a" / wide.key.digest
    (folder / "chunk-00001.safetensors").write_bytes(b"x")
    again = engine(tmp_path)
    assert len(again.evidence(narrow).items) == 7
    assert counting.loads == ["one", "one"]
    assert stored(replace(narrow, key=replace(wide.key, params={"some": 2})), again.store).stored == 0


def quantised_tasks() -> list[Task]:
    """Two measures of weights as they are stored, two of plain numbers, one of them on what another gave."""
    stored = task("one", "a")
    return [task("one", "b", depends_on=stored, plain=True), stored, task("one", "c", plain=True), task("one", "d")]


def test_a_quantised_checkpoint_is_loaded_once_in_each_form_and_never_in_both(counting, tmp_path, monkeypatch):
    counting.quantised, in_memory = True, []
    honest = counting.prepare

    def prepare(checkpoint, *given):
        in_memory.append((checkpoint.form, counting.loaded))
        return honest(checkpoint, *given)

    monkeypatch.setattr(counting, "prepare", prepare)
    engine(tmp_path).complete(quantised_tasks())
    assert counting.forms == ["stored", "dequantised"]
    assert in_memory == [("stored", 1)] * 2 + [("dequantised", 1)] * 2
    assert counting.loaded == 0


def test_plain_weights_serve_every_measure_in_one_load(counting, tmp_path):
    engine(tmp_path).complete(quantised_tasks())
    assert counting.forms == [None]


def test_a_package_that_a_checkpoint_itself_needs_is_a_failure_and_not_a_finding_that_does_not_apply(
    tmp_path, monkeypatch
):
    @contextlib.contextmanager
    def load(ref, **options):
        raise NotInstalledError("takes gptqmodel")
        yield

    monkeypatch.setattr(tuneshift.checkpoints.loading, "load", load)
    with pytest.raises(CheckpointError, match="takes gptqmodel"):
        engine(tmp_path).evidence(task())


def test_what_needs_no_weights_is_measured_without_a_checkpoint_in_memory(counting, tmp_path, monkeypatch):
    first = task("one", "a")
    second = task("one", "b", depends_on=first, loads=False)
    in_memory = []
    honest = counting.prepare
    monkeypatch.setattr(counting, "prepare", lambda *given: in_memory.append(counting.loaded) or honest(*given))
    engine(tmp_path).complete([second])
    assert counting.loads == ["one"]
    assert in_memory == [1, 0]
    assert counting.given[1] is None


def test_what_needs_no_weights_comes_after_every_checkpoint(counting, tmp_path, monkeypatch):
    # an annotator may be a checkpoint itself: in one stretch it is loaded once
    order = []
    honest = Engine._fill
    monkeypatch.setattr(
        Engine, "_fill", lambda self, task, loaded: order.append(task.measure.name) or honest(self, task, loaded)
    )
    labelled = [task(name, "b", depends_on=task(name, "a"), loads=False) for name in ("one", "two")]
    engine(tmp_path).complete(labelled)
    assert order == ["a", "a", "b", "b"]


def test_a_checkpoint_is_loaded_once_for_all_its_tasks_and_never_when_the_store_has_them(counting, tmp_path):
    tasks = [task("one", "a"), task("two", "a"), task("one", "b")]
    engine(tmp_path).complete(tasks)
    assert counting.loads == ["one", "two"]
    assert len(counting.asked) == 21
    again = engine(tmp_path)
    again.complete(tasks)
    assert [i.id for i in again.evidence(tasks[0]).items] == [p.id for p in PROMPTS.prompts]
    assert counting.loads == ["one", "two"]


def test_a_checkpoint_is_loaded_in_its_own_precision_and_else_in_the_runs(counting, tmp_path):
    plain, own = task("plain"), task("own")
    own = replace(own, ref=replace(own.ref, dtype="bfloat16"))
    engine(tmp_path).complete([plain, own])
    assert counting.dtypes == ["float32", "bfloat16"]


def test_what_a_task_rests_on_is_measured_first_and_handed_over(counting, tmp_path):
    first = task("one", "first")
    made = engine(tmp_path).evidence(task("two", "second", depends_on=first))
    assert counting.loads == ["one", "two"]
    assert all(item.arrays["x"][0] == 2.0 for item in made.items)


def test_a_failure_belongs_to_its_task_and_the_rest_goes_on(counting, tmp_path):
    made = engine(tmp_path)
    made.complete([task("broken"), task("fine")])
    assert len(made.evidence(task("fine")).items) == 7
    for _ in range(2):
        with pytest.raises(CheckpointError, match="broken holds NaN"):
            made.evidence(task("broken"))
    assert counting.loads.count("broken") == 1


class Watched:
    """Stands for an activation: something that a test can see freed."""


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"),
        AttributeError("'LinearAttentionLayer' object has no attribute 'batch_select_indices'"),
        MemoryError(),
        IndexError("list index out of range"),
        RecursionError("maximum recursion depth exceeded"),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("where", ["prepare", "take"])
def test_whatever_a_measure_raises_is_that_tasks_failure_with_a_log_and_no_memory_held(
    counting, tmp_path, monkeypatch, raised, where
):
    freed = []
    honest = counting.prepare

    def fail():
        activation = Watched()
        weakref.finalize(activation, freed.append, 1)
        try:
            raise ValueError("underneath")
        except ValueError as cause:
            raise raised from cause

    def prepare(checkpoint, params, sources):
        if len(counting.given):
            return honest(checkpoint, params, sources)
        take = honest(checkpoint, params, sources)

        def failing(prompts, inputs):
            yield from take(prompts[:1], inputs[:1])
            fail()

        return fail() if where == "prepare" else failing

    monkeypatch.setattr(counting, "prepare", prepare)
    made = engine(tmp_path)
    made.complete([task("one", "a"), task("one", "b"), task("two", "a")])
    assert freed == [1]
    for same in (task("one", "b"), task("two", "a")):
        assert len(made.evidence(same).items) == 7
    with pytest.raises(MeasureError, match=f"a of one on set failed: {type(raised).__name__}") as error:
        made.evidence(task("one", "a"))
    (log,) = (tmp_path / ".logs").iterdir()
    assert str(log) in str(error.value)
    assert "underneath" in log.read_text()
    assert f"{type(raised).__name__}" in log.read_text()
    assert {problem.kind for problem in Store(tmp_path).verify()} == {"incomplete"}  # the log is nothing foreign
    engine(tmp_path).evidence(task("one", "a"))
    assert not log.exists()  # it would tell of a failure that is over


def test_a_failure_whose_log_cannot_be_written_says_where_it_came_from(counting, tmp_path):
    (tmp_path / ".logs").write_text("")
    counting.fail_at, counting.failure = "p0", IndexError("list index out of range")
    with pytest.raises(MeasureError, match=r"IndexError: list index.*could not be written.*test_engine\.py, line \d+"):
        engine(tmp_path).evidence(task())


def test_a_checkpoint_that_cannot_be_loaded_or_freed_fails_what_needs_it_alone(counting, tmp_path, monkeypatch):
    made = engine(tmp_path)
    made.complete([task("broken", "a"), task("broken", "b"), task("fine", "a")])
    assert counting.loads == ["broken", "fine"]  # 14 GB are not read once for each measure
    for measure in ("a", "b"):
        with pytest.raises(CheckpointError, match="broken holds NaN"):
            made.evidence(task("broken", measure))

    @contextlib.contextmanager
    def load(ref, *, dtype, device, plain):
        yield SimpleNamespace(
            device=SimpleNamespace(type="cpu"), parameters=1, form=None, computed={"device": "cuda:0"}
        )
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(tuneshift.checkpoints.loading, "load", load)
    with pytest.warns(UserWarning, match="four could not be freed: RuntimeError: CUDA error"):
        made.complete([task("four", "a")])
    assert len(made.evidence(task("four", "a")).items) == 7


def test_what_failed_is_not_tried_again_for_what_rests_on_it(counting, tmp_path):
    counting.fail_at = "p0"
    made, first = engine(tmp_path), task("one", "a")
    made.complete([first])
    asked = len(counting.given)
    with pytest.raises(MeasureError, match="cannot measure p0"):
        made.evidence(task("one", "b", depends_on=first))
    assert len(counting.given) == asked


@pytest.mark.parametrize("when", ["before it is read", "before what rests on it"])
def test_evidence_that_a_prune_takes_during_the_run_is_measured_again(counting, tmp_path, monkeypatch, when):
    made, first = engine(tmp_path), task("one", "a")
    second = task("two", "b", depends_on=first)
    honest, pruned = Store.read, []

    def read(self, key):
        if not pruned and key.measure == "a":
            pruned.extend(Store(tmp_path).prune(unused_by=()))
        return honest(self, key)

    monkeypatch.setattr(Store, "read", read)
    asked = first if when == "before it is read" else second
    found = made.evidence(asked)
    assert len(pruned) == 1
    assert len(found.items) == 7
    assert counting.asked.count("p0") == (2 if asked is first else 3)


def test_a_store_that_is_pruned_without_end_ends_the_task_and_not_the_run(counting, tmp_path, monkeypatch):
    honest = Store.read

    def read(self, key):
        if key.measure == "a":
            list(Store(tmp_path).prune(unused_by=()))
        return honest(self, key)

    monkeypatch.setattr(Store, "read", read)
    made, first = engine(tmp_path), task("one", "a")
    for asked in (first, task("two", "b", depends_on=first)):
        with pytest.raises(StoreError, match="gone each time it is read"):
            made.evidence(asked)


def test_what_was_measured_before_a_failure_is_kept(counting, tmp_path):
    counting.fail_at = "p4"
    with pytest.raises(MeasureError, match="p4"):
        engine(tmp_path).evidence(task())
    counting.fail_at, counting.asked = None, []
    engine(tmp_path).evidence(task())
    assert counting.asked == ["p4", "p5", "p6"]


def test_a_damaged_chunk_is_named_set_aside_and_measured_again(counting, tmp_path):
    engine(tmp_path).evidence(task())
    chunk = next(tmp_path.rglob("chunk-00001.safetensors"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + bytes([chunk.read_bytes()[-1] ^ 1]))
    counting.asked = []
    with pytest.warns(EvidenceWarning, match="chunk-00001"):
        made = engine(tmp_path).evidence(task())
    assert counting.asked == ["p2", "p3"]
    assert len(made.items) == 7
    assert list(tmp_path.rglob("chunk-00001*damaged*"))


def test_a_read_only_store_serves_what_it_holds_and_refuses_the_rest(counting, tmp_path):
    if os.geteuid() == 0:
        # root writes through permissions; a file where the store wants a folder is refused all the same
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError):
            engine(tmp_path / "file").evidence(task())
        return
    engine(tmp_path).evidence(task("one"))
    tmp_path.chmod(0o500)
    try:
        assert len(engine(tmp_path).evidence(task("one")).items) == 7
        with pytest.raises(StoreError):
            engine(tmp_path).evidence(task("two"))
    finally:
        tmp_path.chmod(0o700)


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
import contextlib, pathlib
from types import SimpleNamespace
import tuneshift.checkpoints.loading
from test_engine import Counting, Measure, engine, task
made = Counting()
@contextlib.contextmanager
def load(ref, *, dtype, device, plain):
    yield SimpleNamespace(device=SimpleNamespace(type="cpu"), parameters=1, computed=dict())
tuneshift.checkpoints.loading.load = load
def prepare(self, *given):
    take = made.prepare(*given)
    def slow(prompts, inputs):
        for item in take(prompts, inputs):
            time.sleep({pause})
            yield item
    return slow
Measure.prepare = prepare
engine(pathlib.Path({store!r})).evidence(task())
print("asked", *made.asked, flush=True)
"""


def slow_process(store: Path, pause: float) -> subprocess.Popen[str]:
    code = SLOW.format(tests=str(Path(__file__).parent), store=str(store), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_killed_run_resumes_where_it_was(counting, tmp_path):
    process = slow_process(tmp_path, 0.2)
    deadline = time.time() + 60
    while not list(tmp_path.rglob("chunk-00001.json")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    engine(tmp_path).evidence(task())
    assert 0 < len(counting.asked) <= 3


def test_two_processes_that_want_the_same_measure_it_once(tmp_path):
    both = [slow_process(tmp_path, 0.05) for _ in range(2)]
    asked = [p.communicate(timeout=120)[0].split()[1:] for p in both]
    assert all(p.returncode == 0 for p in both)
    assert sorted(asked[0] + asked[1]) == [p.id for p in PROMPTS.prompts]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_rate_and_remaining_time_and_ci_no_bar(counting, tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    for stream, ci, shown in ((Tty(), False, True), (io.StringIO(), False, False), (Tty(), True, False)):
        if ci:
            monkeypatch.setenv("CI", "true")
        made = engine(tmp_path / f"{shown}{ci}{stream.isatty()}")
        made.bars = bars_on(stream)
        made.evidence(task())
        assert ("counting one" in stream.getvalue()) is shown
        assert ("prompt/s" in stream.getvalue()) is shown


def test_a_small_model_is_measured_on_one_thread_and_the_users_count_comes_back(counting, tmp_path, monkeypatch):
    import torch

    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    honest = counting.prepare

    def prepare(checkpoint, params, sources):
        seen.append(torch.get_num_threads())
        return honest(checkpoint, params, sources)

    monkeypatch.setattr(counting, "prepare", prepare)
    try:
        engine(tmp_path).evidence(task())
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_with_many_pairs_no_more_than_one_checkpoints_evidence_is_in_memory(counting, tmp_path, monkeypatch):
    tasks = [task(name, "a") for name in ("one", "two", "three", "four")]
    engine(tmp_path).complete(tasks)
    warm, most = engine(tmp_path), [0]
    whole = Engine._whole

    def watched(self, asked):
        found = whole(self, asked)
        most[0] = max(most[0], len(self._read))
        return found

    monkeypatch.setattr(Engine, "_whole", watched)
    warm.complete(tasks, keep=False)
    assert most == [1]
    assert not warm._read
    assert len(counting.loads) == 4
    warm.complete(tasks)
    assert most == [4]
