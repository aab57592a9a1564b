"""A run that is killed in the middle and run again leaves the record of an uninterrupted run."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

KILLER = """
import os, signal
from tuneshift.store import session as store_session

write = store_session.Session.write

def write_and_die(self, chunk_number, items, *more):
    write(self, chunk_number, items, *more)
    if self.layout.key.measure == "attribution":
        os.kill(os.getpid(), signal.SIGKILL)

store_session.Session.write = write_and_die
"""
OF_THE_MOMENT = ("started", "finished", "duration_s", "command", "store")


def timeless(path: Path) -> str:
    """The record's text without what differs between any two runs: times, command, the store's place, the checksum."""
    text = path.read_text()
    for name in (*OF_THE_MOMENT, "sha256"):
        text, count = re.subn(rf'^ {{1,2}}"{name}": .*\n', "", text, flags=re.MULTILINE)
        assert count == 1, name
    text, count = re.subn(r'^  "costs": \[.*?^  \],?\n', "", text, flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    return text


def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(suites, pytester, tmp_path, monkeypatch):
    record = pytester.path / "tuneshift-results" / "run.json"
    pytester.makepyfile(killer=KILLER)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)

    suites(new_process=True, store=tmp_path / "whole")
    whole = timeless(record)
    record.unlink()

    killed = suites("-p", "killer", new_process=True, store=tmp_path / "killed")
    assert killed.ret == -signal.SIGKILL
    assert not record.exists()
    left = suites("--shift-plan", store=tmp_path / "killed").stdout.str()
    stored = re.search(r"attribution to own response, tiny, (\d+)/20 stored", left)
    assert stored is not None
    assert stored[1] == "8"  # the one chunk of attributions, and it is kept
    suites(new_process=True, store=tmp_path / "killed")
    assert timeless(record) == whole
