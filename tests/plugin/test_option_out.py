"""``--shift-out``: where the record and the report go."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time

import pytest

from tuneshift import files


def test_all_files_land_in_the_named_folder(suites, pytester):
    result = suites("-k", "density_rises", "--shift-out", "results/today")
    folder = pytester.path / "results" / "today"
    assert json.loads((folder / "run.json").read_text())["schema"] == 1
    page = (folder / "report.html").read_text()
    assert "wu2023.instruction_density_rises" in page
    summary = (folder / "summary.md").read_text()
    assert "| wu2023.instruction_density_rises |" in summary
    written = (
        "record: results/today/run.json",
        "summary: results/today/summary.md",
        "report: results/today/report.html",
    )
    result.stdout.fnmatch_lines(written, consecutive=True)


@pytest.mark.parametrize("out", ["taken", "/proc/nope"])
def test_a_folder_that_cannot_be_written_is_a_usage_error_before_anything_is_measured(suites, pytester, tmp_path, out):
    (pytester.path / "taken").write_text("")
    result = suites("-k", "density_rises", "--shift-out", out, store=tmp_path / "store")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --shift-out {out} cannot be written*; name another folder."])
    assert not (tmp_path / "store").exists()


def test_a_plan_needs_no_folder(suites, pytester):
    (pytester.path / "taken").write_text("")
    assert suites("--shift-plan", "--shift-out", "taken").ret == 0


def full_disk(monkeypatch, *names):
    """Let no file of these names be published."""
    honest = files._write

    def write(path, data):
        if any(path.name.startswith(f".{name}.tmp-") for name in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(path, data)

    monkeypatch.setattr(files, "_write", write)


@pytest.mark.parametrize("name", ["run.json", "summary.md", "report.html"])
def test_results_that_cannot_be_written_are_said_are_not_green_and_leave_the_last_ones(
    suites, pytester, monkeypatch, name
):
    assert suites("-k", "density_rises", "--shift-inconclusive", "skip").ret == 0
    folder = pytester.path / "tuneshift-results"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as full:
        full_disk(full, name)
        result = suites("-k", "density_rises", "--shift-inconclusive", "skip")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*= tuneshift verdicts =*", "tuneshift: nothing was written to tuneshift-results: *No space left*"]
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_baseline_that_cannot_be_written_is_not_green_and_the_record_says_so(suites, record, monkeypatch):
    full_disk(monkeypatch, "baseline.json")
    result = suites(
        "-k", "density_rises", "--shift-inconclusive", "skip", "--shift-save", "good", "--shift-storage", "kept"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["tuneshift: Baseline *good/baseline.json cannot be written*"])
    assert record()["run"]["exit_code"] == 1


def test_what_a_killed_run_left_in_the_folder_is_removed(suites, pytester):
    folder = pytester.mkdir("tuneshift-results")
    code = "from tuneshift import files; print(files._host())"
    host = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder / f".run.json.tmp-{host}-{dead.pid}-01234567").write_text("half")
    suites("-k", "density_rises")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "run.json", "summary.md"]


def test_durations_do_not_follow_a_clock_that_is_set(suites, record, monkeypatch):
    honest, calls = time.time, []

    def jumping():
        calls.append(1)
        return honest() + 10_000 * len(calls)

    monkeypatch.setattr(time, "time", jumping)
    suites("-k", "density_rises")
    assert 0 < record()["run"]["duration_s"] < 5_000
