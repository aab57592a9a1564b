"""Files written whole or not at all, several together; what killed processes leave; locks where there are none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from tuneshift import files
from tuneshift.files import acquired_lock, publish, publish_all, remove_leftovers, require_writable
from tuneshift.store.files import hold


def test_several_files_take_their_places_together_or_not_at_all(tmp_path, monkeypatch):
    first, second = tmp_path / "a", tmp_path / "b"
    publish_all({first: b"old", second: b"old"})
    write, count = files._write, []

    def full(path: Path, data: bytes) -> None:
        count.append(path)
        if len(count) == 2:
            write(path, data[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match="No space"):
        publish_all({first: b"new", second: b"new"})
    assert (first.read_bytes(), second.read_bytes()) == (b"old", b"old")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def temporary_of_a_killed_process(folder: Path) -> Path:
    code = (
        "import os, sys, pathlib; from tuneshift import files\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.publish(pathlib.Path(sys.argv[1]) / 'run.json', b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == -9
    (left,) = folder.glob(".run.json.tmp-*")
    return left


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_or_another_machine_writes_is_not(tmp_path):
    left = temporary_of_a_killed_process(tmp_path)
    host = left.name.split("-")[1]
    living = tmp_path / f".run.json.tmp-{host}-{os.getpid()}-01234567"
    elsewhere = tmp_path / left.name.replace(host, "0" * 8)
    foreign = tmp_path / ".run.json.tmp-mine"
    for path in (living, elsewhere, foreign):
        path.write_bytes(b"")
    remove_leftovers(tmp_path)
    assert not left.exists()
    assert all(path.exists() for path in (living, elsewhere, foreign))
    remove_leftovers(tmp_path / "nowhere")


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    require_writable(tmp_path / "new" / "deep")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        require_writable(tmp_path / "file" / "deep")
    with pytest.raises(OSError, match="nope"):
        require_writable(Path("/proc/nope"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_locked_by_a_file(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    lock = acquired_lock(tmp_path / ".lock", 0)
    assert lock.is_locked
    with pytest.raises(filelock.Timeout):
        acquired_lock(tmp_path / ".lock", 0)
    lock.release()
    acquired_lock(tmp_path / ".lock", 0).release()
    with hold(tmp_path, "0" * 64, timeout=0):
        pass


def test_other_refusals_stay_refusals(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Input/output"):
        acquired_lock(tmp_path / ".lock", 0)


def test_publishing_one_file_leaves_no_other(tmp_path):
    publish(tmp_path / "a", b"text")
    assert os.listdir(tmp_path) == ["a"]
