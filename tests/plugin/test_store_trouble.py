"""A store that cannot be written: every claim fails with one clear message, what was stored stays, results are
written."""

from __future__ import annotations

import errno
import os

import pytest

from tuneshift import files
from tuneshift.store import format as store_format
from tuneshift.store.files import EvidenceWarning
from tuneshift.store.store import Store


def test_a_full_disk_keeps_whole_chunks_and_the_next_run_goes_on(suites, record, tmp_path, monkeypatch):
    published = []

    def publish(path, data):
        if len(published) >= 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        published.append(path)
        files.publish(path, data)

    with monkeypatch.context() as full:
        full.setattr(store_format, "publish", publish)
        result = suites(store=tmp_path / "store")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["wu2023.instruction_density_rises on pair:*: *the disk is full*a rerun resumes*"])
    result.stdout.no_fnmatch_line("*another exception*")
    kept = sum(found.items for found in Store(tmp_path / "store").list())
    assert kept > 0
    suites(store=tmp_path / "store")
    assert len(record()["claims"]) == 4


def test_a_store_that_cannot_be_written_says_so_and_names_it(suites, tmp_path, monkeypatch):
    def publish(path, data):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(store_format, "publish", publish)
    result = suites(store=tmp_path / "store")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*Read-only file system*{tmp_path}*"])
    result.stdout.no_fnmatch_line("*another exception*")


def test_a_warm_store_is_enough_where_nothing_can_be_written(suites, record, monkeypatch):
    suites()

    def publish(path, data):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(store_format, "publish", publish)
    suites()
    assert len(record()["claims"]) == 4


def test_a_damaged_chunk_is_named_and_measured_again(suites, record, tmp_path):
    suites(store=tmp_path / "store")
    before = record()["claims"]
    chunk = next((tmp_path / "store" / "attribution").rglob("chunk-00000.safetensors"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + bytes([chunk.read_bytes()[-1] ^ 1]))
    with pytest.warns(EvidenceWarning, match="chunk-00000"):
        suites(store=tmp_path / "store")
    assert record()["claims"] == before
