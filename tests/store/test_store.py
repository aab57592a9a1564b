"""The evidence store: what goes in comes out, whole chunks only, one writer per key, damage is noticed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tuneshift.errors import StoreError
from tuneshift.store import files as store_files
from tuneshift.store import store as store_module
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.files import DamagedEvidence, EvidenceWarning, FutureEvidence, LockedEvidence, MissingEvidence
from tuneshift.store.session import Progress
from tuneshift.store.store import Store

IDS = tuple(f"prompt-{i}" for i in range(7))


def key(**changes: Any) -> EvidenceKey:
    fields: dict[str, Any] = {
        "measure": "attribution",
        "version": 1,
        "params": {"max_new_tokens": 300, "response": "own"},
        "checkpoint": "c" * 64,
        "dtype": "float32",
        "prompts": "p" * 64,
    }
    return EvidenceKey(**{**fields, **changes})


def item(id: str, seed: int = 0) -> EvidenceItem:
    """An item with ragged arrays that depend on its id and the seed."""
    rng = np.random.default_rng([seed, *id.encode()])
    n, m = rng.integers(1, 9, 2)
    return EvidenceItem(
        id=id,
        arrays={"importance": rng.random((n, m), np.float32), "tokens": rng.integers(0, 99, n)},
        values={"response": f"réponse to {id}", "length": int(m)},
    )


def fill(store: Store, ids: Sequence[str] = IDS, chunk_size: int = 3, *, chunks: int = 99, seed: int = 0) -> list[int]:
    """Measure what is missing, at most ``chunks`` chunks; returns the chunk numbers written."""
    with store.session(key(), ids, {"host": "here"}, chunk_size=chunk_size) as session:
        todo = session.missing[:chunks]
        for number, chunk in todo:
            session.write(number, [item(i, seed) for i in chunk])
    return [number for number, _ in todo]


def assert_same(got: EvidenceItem, expected: EvidenceItem) -> None:
    assert (got.id, got.values, got.left_out) == (expected.id, expected.values, expected.left_out)
    assert list(got.arrays) == list(expected.arrays)
    for name, array in expected.arrays.items():
        assert got.arrays[name].dtype == array.dtype.newbyteorder("="), name
        assert got.arrays[name].shape == array.shape, name
        np.testing.assert_array_equal(got.arrays[name], array)


def folder(store: Store) -> Path:
    return store.root / "attribution" / key().digest


def files(store: Store) -> list[str]:
    return sorted(p.name for p in folder(store).iterdir())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def full(store: Store) -> Store:
    fill(store)
    return store


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that the test's user owns, with root's power over permissions laid down."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    home = Path(tempfile.mkdtemp(prefix="tuneshift-test-"))  # pytest's own tmp_path is closed to other users
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(home, 65534, 65534)
        os.seteuid(65534)
    try:
        yield home
    finally:
        if was_root:
            os.seteuid(0)
        for path in [home, *home.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        shutil.rmtree(home)


# What goes in comes out


def test_evidence_comes_back_as_written_and_in_the_order_of_its_ids(store: Store) -> None:
    assert fill(store) == [0, 1, 2]
    evidence = store.read(key())
    assert evidence.key == key()
    assert [i.id for i in evidence.items] == list(IDS)
    for got in evidence.items:
        assert_same(got, item(got.id))


DTYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0,), (0, 5), (2, 0, 3)])
def test_every_dtype_and_shape_round_trips(store: Store, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(int(np.prod(shape, dtype=int))).reshape(shape) % 3, dtype=dtype)
    scalar: Any = array.dtype.type(1)  # what a reduction over a numpy array returns
    given = EvidenceItem(id="a", arrays={"x": array, "y/z": array, "scalar": scalar})
    with store.session(key(), ["a"], {}, chunk_size=1) as session:
        session.write(0, [given])
    assert_same(store.read(key()).items[0], given)


def test_strided_transposed_and_foreign_byte_order_arrays_keep_their_values(store: Store) -> None:
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {"transposed": grid.T, "strided": grid[::2, 1::2], "reversed": grid[::-1], "big": grid.astype(">f4")}
    arrays |= {"nan": np.array([np.nan, np.inf], np.float32), "broadcast": np.broadcast_to(np.float32(2), (3, 2))}
    given = EvidenceItem(id="a", arrays=arrays)
    with store.session(key(), ["a"], {}, chunk_size=1) as session:
        session.write(0, [given])
    assert_same(store.read(key()).items[0], given)


def test_items_without_arrays_left_out_items_and_every_kind_of_value_round_trip(store: Store) -> None:
    values: dict[str, Any] = {
        "t": True,
        "n": None,
        "i": 2**70,
        "f": 0.1,
        "s": "\ud800 lone surrogate",
        "l": [1, [2.5]],
        "d": {"a": {}},
    }
    given = [EvidenceItem(id="a", values=values), EvidenceItem(id="b", left_out="2100 tokens, context 2048")]
    with store.session(key(), ["a", "b"], {}, chunk_size=2) as session:
        session.write(0, given)
    for got, expected in zip(store.read(key()).items, given, strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"score": float("nan")}, "values['score']: nan"),
        ({"rows": [{"x": [0.0, float("-inf")]}]}, "values['rows'][0]['x'][1]: -inf"),
        ({"counts": {3: 1}}, "the name 3 is a int"),
        ({"score": np.float32(1)}, "float32 cannot be stored"),
    ],
)
def test_values_that_json_cannot_hold_are_refused_by_place(store: Store, values: dict[str, Any], place: str) -> None:
    with store.session(key(), ["a"], {}, chunk_size=1) as session:
        with pytest.raises(StoreError) as error:
            session.write(0, [EvidenceItem(id="a", values=values)])
        assert place in str(error.value)
        assert "item 'a'" in str(error.value)
        assert session.missing == ((0, ("a",)),)
    assert files(store) == ["key.json"]


@pytest.mark.parametrize("array", [np.array(["x"]), np.array([object()]), np.array([1j]), [1.0]])
def test_arrays_that_safetensors_cannot_hold_are_refused_by_name(store: Store, array: Any) -> None:
    with (
        store.session(key(), ["a"], {}, chunk_size=1) as session,
        pytest.raises(StoreError, match=r"item 'a', array 'x': .* cannot be stored; a numpy array of one of bool"),
    ):
        session.write(0, [EvidenceItem(id="a", arrays={"x": array})])
    assert files(store) == ["key.json"]


# The format of docs/evidence-format.md


def test_files_are_as_documented(full: Store) -> None:
    assert files(full) == sorted(
        ["key.json", *(f"chunk-0000{i}.{s}" for i in range(3) for s in ("json", "safetensors"))]
    )
    described = json.loads((folder(full) / "key.json").read_text())
    assert described["format"] == 1
    assert described["params"] == {"max_new_tokens": 300, "response": "own"}
    assert (described["ids"], described["chunk_size"], described["digest"]) == (list(IDS), 3, key().digest)
    chunk = json.loads((folder(full) / "chunk-00001.json").read_text())
    blob = folder(full) / "chunk-00001.safetensors"
    assert chunk["arrays_sha256"] == hashlib.sha256(blob.read_bytes()).hexdigest()
    seal = chunk.pop("sha256")
    canonical = json.dumps(chunk, sort_keys=True, separators=(",", ":"))
    assert seal == hashlib.sha256(canonical.encode()).hexdigest()
    assert chunk["provenance"] == {"host": "here"}
    assert set(load_file(blob)) == {f"{i}/{name}" for i in (3, 4, 5) for name in ("importance", "tokens")}
    shape = list(item("prompt-3").arrays["importance"].shape)
    assert chunk["items"][0]["arrays"]["importance"] == {"dtype": "float32", "shape": shape}


def test_files_are_readable_by_whoever_the_umask_lets(store: Store) -> None:
    old = os.umask(0o022)
    try:
        fill(store)
    finally:
        os.umask(old)
    assert {p.stat().st_mode & 0o777 for p in folder(store).iterdir()} == {0o644}


def test_provenance_is_merged_over_chunks(store: Store) -> None:
    for number, host in enumerate(["x", "y"]):
        with store.session(key(), ["a", "b"], {"torch": "2.13", "host": host, "gpu": None}, chunk_size=1) as session:
            session.write(number, [item("ab"[number])], {"seconds": number + 0.5})
    provenance = store.read(key()).provenance
    assert provenance["torch"] == "2.13"
    assert provenance["gpu"] is None
    assert "host" not in provenance
    rows = [{k: v for k, v in row.items() if k != "written"} for row in provenance["chunks"]]
    assert rows == [
        {"chunk": 0, "items": 1, "host": "x", "seconds": 0.5},
        {"chunk": 1, "items": 1, "host": "y", "seconds": 1.5},
    ]


def test_the_documents_example_reads_a_set(full: Store, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evidence-format.md").read_text()
    example = page.rsplit("```python\n", 1)[1].split("```")[0].replace("STORE/attribution/0123...", str(folder(full)))
    exec(compile(example, "evidence-format.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    shapes = [{name: array.shape for name, array in item(i).arrays.items()} for i in IDS]
    assert printed == [f"{i} {s}" for i, s in zip(IDS, shapes, strict=True)]


# Resuming


def test_nothing_is_created_before_the_first_write(store: Store) -> None:
    assert store.status(key(), IDS) == Progress(stored=0, total=7)
    with pytest.raises(MissingEvidence, match="no attribution evidence"):
        store.read(key())
    assert [*store.list(), *store.verify(), *store.prune(incomplete=True)] == []
    assert not store.root.exists()


def test_a_resumed_session_has_only_the_rest_and_keeps_the_stored_chunk_size(store: Store) -> None:
    assert fill(store, chunk_size=2, chunks=2) == [0, 1]
    assert store.status(key(), IDS) == Progress(stored=4, total=7)
    with pytest.raises(MissingEvidence, match=r"4 of 7 items"):
        store.read(key())
    with store.session(key(), IDS, {}, chunk_size=100) as session:
        assert session.missing == ((2, ("prompt-4", "prompt-5")), (3, ("prompt-6",)))
        assert session.progress == Progress(stored=4, total=7)
    assert fill(store, chunk_size=5) == [2, 3]
    assert store.status(key(), IDS).complete
    assert fill(store) == []
    assert [i.id for i in store.read(key()).items] == list(IDS)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"params": {"max_new_tokens": 301, "response": "own"}},
        {"checkpoint": "d" * 64},
        {"dtype": "bfloat16"},
        {"prompts": "q" * 64},
        {"measure": "relations"},
    ],
)
def test_every_field_of_the_key_tells_evidence_apart(full: Store, change: dict[str, Any]) -> None:
    assert full.status(key(**change), IDS).stored == 0
    with pytest.raises(MissingEvidence):
        full.read(key(**change))


def test_other_ids_under_the_same_key_are_an_error_that_names_the_first_difference(full: Store) -> None:
    other = (*IDS[:4], "stranger", *IDS[5:])
    match = "differ at item 4: 'prompt-4' stored, 'stranger' asked.*cannot normally happen"
    with pytest.raises(StoreError, match=match):
        full.status(key(), other)
    with pytest.raises(StoreError, match=match), full.session(key(), other, {}, chunk_size=3):
        pass
    with pytest.raises(StoreError, match="differ at item 5: 'prompt-5' stored, None asked"):
        full.status(key(), IDS[:5])


def test_arguments_at_fault_are_value_errors(store: Store) -> None:
    def refused(match: str, **changes: Any) -> None:
        given: dict[str, Any] = {"key": key(), "ids": IDS, "provenance": {}, "chunk_size": 3, **changes}
        with pytest.raises(ValueError, match=match), store.session(**given):
            pass

    refused("at least 1 item, got 0", chunk_size=0)
    refused("got 0 ids", ids=[])
    refused("3 ids, 2 different", ids=["a", "b", "a"])
    refused("cannot name a folder", key=key(measure="../escape"))
    refused(r"fields \['chunks'\] are the store's own", provenance={"chunks": 1})
    assert not store.root.exists()
    with store.session(key(), IDS, {}, chunk_size=3) as session:
        with pytest.raises(ValueError, match=r"holds the items \['prompt-0', .* in this order, got"):
            session.write(0, [item(i) for i in reversed(IDS[:3])])
        with pytest.raises(ValueError, match=r"chunk 9 is not missing; missing are \[0, 1, 2\]"):
            session.write(9, [])
        session.write(0, [item(i) for i in IDS[:3]])
        with pytest.raises(ValueError, match="chunk 0 is not missing"):
            session.write(0, [item(i) for i in IDS[:3]])
    with pytest.raises(ValueError, match="session has ended"):
        session.write(1, [item(i) for i in IDS[3:6]])


# Damage


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_chunk_is_named_set_aside_and_alone_measured_again(full: Store, suffix: str) -> None:
    bad = folder(full) / f"chunk-00001.{suffix}"
    flip_a_bit(bad)
    assert full.status(key(), IDS).complete  # status looks at names alone
    with pytest.raises(DamagedEvidence, match=r"checksum|not JSON") as error:
        full.read(key())
    assert error.value.path == bad
    assert "set aside as chunk-00001.json.damaged-1" in str(error.value)
    assert str(error.value).endswith("A run measures what is missing, and only that")
    assert full.status(key(), IDS) == Progress(stored=4, total=7)
    assert fill(full) == [1]
    for got in full.read(key()).items:
        assert_same(got, item(got.id))
    assert [p for p in files(full) if "damaged" in p] == [f"chunk-00001.{s}.damaged-1" for s in ("json", "safetensors")]


def test_a_session_finds_damage_warns_and_lists_the_chunk_as_missing_every_time_under_a_new_name(full: Store) -> None:
    for n in (1, 2):
        flip_a_bit(folder(full) / "chunk-00002.safetensors")
        with pytest.warns(
            EvidenceWarning, match=rf"chunk-00002.safetensors is damaged.*damaged-{n}.*1 items are measured"
        ):
            assert fill(full) == [2]
    assert len(full.read(key()).items) == 7


@pytest.mark.parametrize("cut", [0, 5, 0.5])
def test_truncated_files_are_damaged_not_a_crash(full: Store, cut: float) -> None:
    for name in ("chunk-00000.safetensors", "chunk-00001.json"):
        path = folder(full) / name
        data = path.read_bytes()
        path.write_bytes(data[: int(cut * len(data)) if cut == 0.5 else int(cut)])
    with pytest.warns(EvidenceWarning):
        assert fill(full) == [0, 1]
    assert len(full.read(key()).items) == 7


def test_a_chunk_in_the_wrong_place_is_damaged(full: Store) -> None:
    for suffix in ("json", "safetensors"):
        shutil.copy(folder(full) / f"chunk-00000.{suffix}", folder(full) / f"chunk-00001.{suffix}")
    with pytest.raises(DamagedEvidence, match="another place"):
        full.read(key())


def test_a_chunk_of_another_set_is_damaged(full: Store) -> None:
    other = key(version=2)
    with full.session(other, IDS, {}, chunk_size=3) as session:
        session.write(0, [item(i, seed=1) for i in IDS[:3]])
    for suffix in ("json", "safetensors"):
        shutil.copy(full.root / "attribution" / other.digest / f"chunk-00000.{suffix}", folder(full))
    with pytest.raises(DamagedEvidence, match="belongs to another set"):
        full.read(key())


def test_arrays_that_are_gone_make_the_chunk_missing(full: Store) -> None:
    (folder(full) / "chunk-00000.safetensors").unlink()
    with pytest.raises(MissingEvidence, match="4 of 7"):
        full.read(key())
    with pytest.warns(EvidenceWarning, match="its arrays are gone"):
        assert fill(full) == [0]


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_lost_key_file_is_written_anew_and_the_chunks_are_kept(store: Store, how: str) -> None:
    fill(store, chunk_size=2)
    path = folder(store) / "key.json"
    if how == "gone":
        path.unlink()
        with pytest.raises(MissingEvidence):
            store.read(key())
        assert fill(store, chunk_size=5) == []
    else:
        flip_a_bit(path)
        assert store.status(key(), IDS).stored == 0
        with pytest.warns(EvidenceWarning, match=r"key.json is damaged.*the chunks are kept"):
            assert fill(store, chunk_size=5) == []
    assert [i.id for i in store.read(key()).items] == list(IDS)


def test_a_set_under_another_keys_name_is_damaged(full: Store) -> None:
    other = key(version=2)
    shutil.copytree(folder(full), full.root / "attribution" / other.digest)
    with pytest.raises(DamagedEvidence, match=rf"its key belongs in attribution/{key().digest}"):
        full.read(other)


@pytest.mark.parametrize("name", ["key.json", "chunk-00001.json"])
def test_a_future_format_is_refused_by_version_and_left_untouched(full: Store, name: str) -> None:
    path = folder(full) / name
    path.write_text(json.dumps({"format": 2, "shape": "unheard of"}))
    before = {p.name: p.read_bytes() for p in folder(full).iterdir()}
    with pytest.raises(FutureEvidence, match=r"evidence format 2; this tuneshift reads formats up to 1. Upgrade"):
        full.read(key())
    with pytest.raises(FutureEvidence), full.session(key(), IDS, {}, chunk_size=3):
        pass
    assert [p.kind for p in full.verify()][:1] == ["future"]
    assert name != "key.json" or list(full.prune(incomplete=True, older_than_days=0)) == []
    assert {p.name: p.read_bytes() for p in folder(full).iterdir()} == before


def test_damage_that_a_writer_is_just_repairing_is_not_set_aside(full: Store) -> None:
    path = folder(full) / "chunk-00001.safetensors"
    with full.session(key(), IDS, {}, chunk_size=3):
        flip_a_bit(path)
        with pytest.raises(DamagedEvidence, match=rf"could not be set aside .*process {os.getpid()} "):
            full.read(key())
    assert path.exists()


def test_damage_that_a_writer_has_just_repaired_is_read_again(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = folder(full) / "chunk-00001.safetensors", store_files.hold
    sound = path.read_bytes()
    flip_a_bit(path)

    @contextlib.contextmanager
    def repaired_before_the_lock_is_ours(*args: Any, **options: Any) -> Iterator[None]:
        path.write_bytes(sound)
        with whole(*args, **options):
            yield

    monkeypatch.setattr(store_module, "hold", repaired_before_the_lock_is_ours)
    assert len(full.read(key()).items) == 7
    assert not [name for name in files(full) if "damaged" in name]


# Disks that refuse


def fail(code: int, after: int = 0) -> Any:
    """A stand-in for os.fsync that fails with ``code`` from call ``after`` on."""
    calls = iter(range(10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_keeps_what_is_whole_and_leaves_no_scraps(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    # after=0: the arrays do not fit; after=2 (file and folder of the arrays are synced): their JSON does not
    fill(store, chunks=1)
    before = files(store)
    with store.session(key(), IDS, {}, chunk_size=3) as session:
        monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC, after))
        with pytest.raises(StoreError, match=r"disk is full.*3 of 7 items are stored and kept, a rerun resumes there"):
            session.write(1, [item(i) for i in IDS[3:6]])
    assert files(store) == before
    monkeypatch.undo()
    assert fill(store) == [1, 2]


FILL_A_DISK = """
import sys
from pathlib import Path
import numpy as np
from tuneshift.store import store as store_module
from tuneshift.store import files as store_files
from tuneshift.errors import StoreError
from tuneshift.store.evidence import EvidenceItem
from tuneshift.store.store import Store
from test_store import key
store, ids = Store(Path(sys.argv[1]) / "store"), [str(i) for i in range(9)]
try:
    with store.session(key(), ids, {}, chunk_size=1) as session:
        for number, (id,) in session.missing:
            session.write(number, [EvidenceItem(id=id, arrays={"x": np.ones(5000, np.float32)})])
except StoreError as error:
    print(error)
print("stored", store.status(key(), ids).stored, "problems", [p.kind for p in store.verify()])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    isolate = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=128k none '{tmp_path}'"
    if not shutil.which("unshare") or subprocess.run([*isolate, mount], capture_output=True).returncode:
        pytest.skip("no private mounts here (unshare --mount), so no small disk to fill")
    ran = subprocess.run(
        [*isolate, f"{mount} && exec \"$@\"", "sh", sys.executable, "-c", FILL_A_DISK, str(tmp_path)],
        capture_output=True, text=True, env=child_environment(), timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    message, summary = ran.stdout.strip().splitlines()
    stored = int(summary.split()[1])
    assert 1 <= stored < 9
    assert f"disk is full (or a quota is used up): free some space; {stored} of 9 items are stored and kept" in message
    assert summary.endswith("problems ['incomplete']")


def test_reading_works_on_a_read_only_store_and_writing_says_why_not(
    unprivileged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:  # by mode alone the owner may still touch a file; a read-only mount refuses
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", refused)
    store = Store(unprivileged / "store")
    fill(store)
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert store.status(key(), IDS).complete
    assert len(store.read(key()).items) == 7
    assert [s.complete for s in store.list()] == [True]
    assert list(store.verify()) == []
    with pytest.raises(StoreError, match="permission denied: name another store with --shift-store"):
        fill(store)
    with pytest.raises(StoreError, match="permission denied"):
        list(store.prune(older_than_days=0))
    assert len(store.read(key()).items) == 7


def test_damage_in_a_read_only_store_is_still_named(unprivileged: Path) -> None:
    store = Store(unprivileged / "store")
    fill(store)
    flip_a_bit(folder(store) / "chunk-00000.safetensors")
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with pytest.raises(DamagedEvidence, match=r"chunk-00000.safetensors is damaged: .*could not be set aside"):
        store.read(key())


def test_a_root_that_cannot_be_read_or_made(unprivileged: Path) -> None:
    closed = unprivileged / "closed"
    closed.mkdir()
    closed.chmod(0)
    for store in (Store(closed / "store"), Store(closed)):
        with pytest.raises(StoreError, match="permission denied"):
            store.status(key(), IDS)
        with pytest.raises(StoreError, match="permission denied"):
            fill(store)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = Store(tmp_path / "store")
    for attempt in (
        lambda: store.status(key(), IDS),
        lambda: store.read(key()),
        lambda: fill(store),
        lambda: [*store.list()],
    ):
        with pytest.raises(StoreError, match="a file is where a folder should be: name another store"):
            attempt()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EROFS, "read-only file system"), (errno.EDQUOT, "quota"), (errno.EIO, "check the disk")],
)
def test_other_refusals_while_writing(store: Store, monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    with store.session(key(), IDS, {}, chunk_size=3) as session:
        monkeypatch.setattr(os, "fsync", fail(code))
        with pytest.raises(StoreError, match=f"could not write chunk 0 .*{reason}.*0 of 7 items are stored"):
            session.write(0, [item(i) for i in IDS[:3]])


# Several processes


def child_environment() -> dict[str, str]:
    here = str(Path(__file__).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}


CHILD = """
import sys
from pathlib import Path
from tuneshift.store.store import Store
from test_store import IDS, item, key
store, measured = Store(Path(sys.argv[1])), []
print("started", flush=True)
with store.session(key(), IDS, {}, chunk_size=3) as session:
    for number, ids in session.missing:
        print("measuring", number, flush=True)
        sys.stdin.readline()  # the test lets go of every chunk by one line
        session.write(number, [item(i) for i in ids])
        measured.append(number)
print("measured", measured, flush=True)
"""


@contextlib.contextmanager
def child(store: Store, code: str = CHILD) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, str(store.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=child_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[str], expected: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == expected


def tell(process: subprocess.Popen[str], lines: int) -> None:
    assert process.stdin is not None
    process.stdin.write("\n" * lines)
    process.stdin.flush()


def holder_of_the_lock(store: Store) -> int:
    for _ in range(3000):
        for record in (store.root / ".locks").glob("*.json"):
            with contextlib.suppress(ValueError, FileNotFoundError):  # not yet, or not yet wholly written
                return int(json.loads(record.read_text())["pid"])
        time.sleep(0.01)
    pytest.fail("30 s went by and nobody took the lock")


def test_two_processes_that_want_the_same_evidence_measure_it_once(store: Store) -> None:
    with child(store) as first, child(store) as second:
        says(first, "started")
        says(second, "started")
        writer, waiter = (first, second) if holder_of_the_lock(store) == first.pid else (second, first)
        with (
            pytest.raises(LockedEvidence, match=rf"process {writer.pid} on .*{key().digest}.lock \(waited 0.1 s\)"),
            store.session(key(), IDS, {}, chunk_size=3, timeout=0.1),
        ):
            pass
        tell(writer, 3)
        tell(waiter, 3)  # so that a waiter that measures after all does so, and says so, instead of hanging
        assert writer.stdout is not None
        assert waiter.stdout is not None
        assert [line.strip() for line in writer.stdout] == [*(f"measuring {i}" for i in range(3)), "measured [0, 1, 2]"]
        assert [line.strip() for line in waiter.stdout] == ["measured []"]
    assert len(store.read(key()).items) == 7


HALF_A_WRITE = """
import os
whole = os.fsync
calls = iter(range(99))
def fsync(descriptor):
    if next(calls) >= {after}:
        print("half-way", flush=True)
        __import__("time").sleep(60)
    whole(descriptor)
os.fsync = fsync
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("after", "arrays"), [(6, False), (8, True)], ids=["in the arrays", "in the JSON"])
def test_a_process_killed_half_way_through_a_chunk_leaves_whole_chunks_and_no_lock(
    store: Store, after: int, arrays: bool
) -> None:
    # a published file is synced twice (itself, its folder): key.json 0-1, chunk 0 at 2-5, chunk 1 from 6
    with child(store, HALF_A_WRITE.format(after=after) + CHILD) as process:
        tell(process, 2)
        for line in ("started", "measuring 0", "measuring 1", "half-way"):
            says(process, line)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [name for name in files(store) if ".tmp-" in name] != []
    assert ("chunk-00001.safetensors" in files(store)) == arrays
    assert {p.kind for p in store.verify()} == {"temporary", "incomplete"}
    assert store.status(key(), IDS) == Progress(stored=3, total=7)
    with store.session(key(), IDS, {}, chunk_size=3, timeout=0) as session:
        assert [number for number, _ in session.missing] == [1, 2]
    assert fill(store) == [1, 2]
    assert [name for name in files(store) if ".tmp-" in name] == []
    for got in store.read(key()).items:
        assert_same(got, item(got.id))


def test_an_exception_in_a_session_lets_go_of_the_lock_and_keeps_what_was_written(store: Store) -> None:
    def interrupted() -> None:
        with store.session(key(), IDS, {}, chunk_size=3) as session:
            session.write(0, [item(i) for i in IDS[:3]])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert [p.suffix for p in (store.root / ".locks").iterdir()] == [".lock"]  # nobody is named as its holder
    with store.session(key(), IDS, {}, chunk_size=3, timeout=0) as session:
        assert [number for number, _ in session.missing] == [1, 2]


# Looking after it


def test_list_names_what_is_stored(full: Store) -> None:
    with full.session(key(measure="generation"), IDS, {}, chunk_size=3) as session:
        session.write(1, [item(i) for i in IDS[3:6]])
    os.utime(folder(full) / "key.json", (1e9, 1e9))
    first, second = full.list()
    assert (first.measure, first.items, first.total, first.complete) == ("attribution", 7, 7, True)
    assert (second.measure, second.items, second.total, second.complete) == ("generation", 3, 7, False)
    assert first.key == key()
    assert first.size == sum(p.stat().st_size for p in folder(full).iterdir())
    assert first.last_used == "2001-09-09T01:46:40+00:00"
    full.read(key())
    assert next(full.list()).last_used > "2025"


def test_verify_reports_everything_that_is_wrong_and_changes_nothing(full: Store) -> None:
    assert list(full.verify()) == []
    flip_a_bit(folder(full) / "chunk-00001.safetensors")
    for name in (".chunk-00002.json.tmp-12-abcd", "chunk-00000.json.damaged-1", "notes.txt"):
        (folder(full) / name).write_text("x")
    (full.root / "README").write_text("x")
    (full.root / "attribution" / "elsewhere").mkdir()
    before = files(full)
    found = {(p.kind, p.path.name) for p in full.verify()}
    assert found == {
        ("damaged", "chunk-00001.safetensors"),
        ("incomplete", key().digest),
        ("temporary", ".chunk-00002.json.tmp-12-abcd"),
        ("aside", "chunk-00000.json.damaged-1"),
        ("foreign", "notes.txt"),
        ("foreign", "README"),
        ("foreign", "elsewhere"),
    }
    assert files(full) == before
    flip_a_bit(folder(full) / "key.json")
    assert ("damaged", "key.json") in {(p.kind, p.path.name) for p in full.verify()}


@pytest.fixture
def three(full: Store) -> Store:
    """A complete set (version 1), a half one (2), and an old complete one (3)."""
    for version, ids in ((2, IDS[:3]), (3, IDS)):
        with full.session(key(version=version), IDS, {}, chunk_size=len(ids)) as session:
            session.write(0, [item(i) for i in ids])
    os.utime(full.root / "attribution" / key(version=3).digest / "key.json", (1e9, 1e9))
    return full


PRUNES: list[tuple[dict[str, Any], set[int]]] = [
    ({}, set()),
    ({"incomplete": True}, {2}),
    ({"older_than_days": 30}, {3}),
    ({"older_than_days": 0}, {1, 2, 3}),
    ({"older_than_days": 30, "incomplete": True}, set()),
    ({"unused_by": {key().digest}}, {2, 3}),
    ({"unused_by": {key().digest}, "older_than_days": 30}, {3}),
    ({"unused_by": set()}, {1, 2, 3}),
    ({"damaged": True}, set()),
]


@pytest.mark.parametrize(("chosen", "expected"), PRUNES, ids=[str(sorted(c)) + str(e) for c, e in PRUNES])
def test_prune_removes_what_was_chosen_and_nothing_else(
    three: Store, chosen: dict[str, Any], expected: set[int]
) -> None:
    versions = {key(version=v).digest: v for v in (1, 2, 3)}
    planned = list(three.prune(**chosen, dry_run=True))
    assert len(list(three.list())) == 3
    assert list(three.prune(**chosen)) == planned
    assert {versions[removed.path.name] for removed in planned} == expected
    assert all(removed.size > 0 and removed.reason for removed in planned)
    assert {s.key.version for s in three.list()} == {1, 2, 3} - expected
    assert {p.name for p in (three.root / "attribution").iterdir()} == {
        d for d, v in versions.items() if v not in expected
    }


def test_prune_of_damage_removes_scraps_only(full: Store) -> None:
    flip_a_bit(folder(full) / "chunk-00001.safetensors")
    with pytest.warns(EvidenceWarning):
        fill(full)
    (folder(full) / ".chunk-00002.json.tmp-12-abcd").write_text("xyz")
    (folder(full) / "notes.txt").write_text("mine")
    removed = {r.path.name: r.reason for r in full.prune(damaged=True)}
    assert removed == {
        "chunk-00001.json.damaged-1": "set aside as damaged",
        "chunk-00001.safetensors.damaged-1": "set aside as damaged",
        ".chunk-00002.json.tmp-12-abcd": "left by a killed run",
    }
    assert len(full.read(key()).items) == 7
    list(full.prune(older_than_days=0))
    assert files(full) == ["notes.txt"]


def test_prune_leaves_a_set_that_is_being_measured(full: Store) -> None:
    with full.session(key(), IDS, {}, chunk_size=3):
        assert list(full.prune(older_than_days=0)) == []
    assert len(full.read(key()).items) == 7
    assert len(list(full.prune(older_than_days=0))) == 1


def test_prune_refuses_a_negative_age(full: Store) -> None:
    with pytest.raises(ValueError, match="0 or more, got -1"):
        list(full.prune(older_than_days=-1))


def test_the_store_needs_no_torch() -> None:
    code = "import sys, tuneshift.store.store; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
