"""A measure that fails ends its own claims: others report, and the record says what could not be claimed and why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tuneshift.cli import main
from tuneshift.run_record import read_record, write_record

BREAKER = """
from tuneshift.measures import likelihood

def broken(*given, **named):
    raise AttributeError("'LinearAttentionLayer' object has no attribute 'batch_select_indices'")

likelihood.response_logprobs = broken
"""

RANKING = [f"hewitt2024.base_ranks_responses{score}" for score in ("", "_pmi", "_swap")]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_an_exception_in_a_measure_is_an_error_of_its_claims_and_no_internal_one(
    suites, pytester, record, monkeypatch, tmp_path, workers
):
    pytester.makepyfile(breaker=BREAKER)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    result = suites(
        "-p", "breaker", "-k", "ranks_responses or tuned_follows", *workers, suite="test_implicit_following.py",
        new_process=True, store=tmp_path / "store",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    held = record()
    assert {claim["finding"] for claim in held["claims"]} == {"hewitt2024.tuned_follows"}
    assert [error["finding"] for error in held["errors"]] == RANKING
    for error in held["errors"]:
        assert (error["pair"], error["prompts"], error["group"]) == (held["pairs"][0]["name"], "tiny", "all")
        log = Path(re.search(r"Its traceback is in (\S+)\.$", error["message"])[1])
        assert "AttributeError: 'LinearAttentionLayer'" in log.read_text()
    result.stdout.fnmatch_lines(["3 claims could not be made, because something failed.*"])
    folder = pytester.path / "tuneshift-results"
    assert "3 claims could not be made" in (folder / "summary.md").read_text()
    assert "| hewitt2024.base_ranks_responses |" in (folder / "summary.md").read_text()
    assert "What could not be claimed" in (folder / "report.html").read_text()


def test_a_run_in_which_every_claim_failed_has_a_record_too(suites, pytester, record, monkeypatch, tmp_path):
    pytester.makepyfile(breaker=BREAKER)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    suites("-p", "breaker", "-k", "base_ranks", suite="test_implicit_following.py", new_process=True, store=tmp_path)
    assert record()["claims"] == []
    assert [error["finding"] for error in record()["errors"]] == RANKING


def test_a_sound_run_has_no_errors(suites, record, pytester):
    suites("-k", "density_rises")
    assert record()["errors"] == []
    assert "could not be" not in (pytester.path / "tuneshift-results" / "report.html").read_text()


def test_the_gate_is_not_green_where_a_claim_could_not_be_made(suites, pytester, monkeypatch, capsys):
    suites("-k", "density_rises", "--shift-save", "good", "--shift-storage", "kept", "--shift-inconclusive", "skip")
    path = pytester.path / "tuneshift-results" / "run.json"
    gate = ["gate", str(path), "--baseline", "good", "--storage", str(pytester.path / "kept")]
    assert main(gate) == 0
    errors = [{"finding": "f", "pair": "p", "prompts": "s", "group": "all", "message": "no memory"}]
    write_record(replace(read_record(path), errors=errors), path)
    assert main(gate) == 1
    assert "1 claim could not be made" in capsys.readouterr().out


SLOW = """
import pathlib, time
from tuneshift.store import session as store_session

write = store_session.Session.write

def write_and_wait(self, chunk_number, items, *more):
    write(self, chunk_number, items, *more)
    if self.layout.key.measure == "attribution":
        pathlib.Path("written").touch()
        time.sleep(120)

store_session.Session.write = write_and_wait
"""


def test_sigterm_ends_a_run_as_an_interrupt_does_and_says_how_to_go_on(suites, pytester, monkeypatch, tmp_path, record):
    pytester.makepyfile(slow=SLOW)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    started: list[subprocess.Popen] = []

    def start(*arguments, **_):
        command = [sys.executable, "-m", "pytest", *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True))

    monkeypatch.setattr(pytester, "runpytest", start)
    suites("-p", "slow", store=tmp_path / "store")
    (process,) = started
    deadline = time.monotonic() + 240
    while not (pytester.path / "written").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 143
    assert re.search(r"ended by SIGTERM.*Resume with the same command: pytest .*-p slow", said)
    monkeypatch.undo()
    left = suites("--shift-plan", store=tmp_path / "store").stdout.str()
    assert re.search(r"attribution to own response, tiny, 8/20 stored", left)
