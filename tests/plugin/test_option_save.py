"""``--shift-save``: a run is kept as a baseline, once, and only on purpose."""

from __future__ import annotations

import pytest

from tuneshift.cli import main
from tuneshift.gate.baselines import Baselines

DENSITY = ("-k", "density_rises")


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_the_run_is_kept_below_the_rootdir_and_the_terminal_says_where(suites, pytester, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    result = suites(*DENSITY, "--shift-save", "good", f"--rootdir={pytester.path}", *workers, new_process=bool(workers))
    result.stdout.fnmatch_lines(["baseline good: *baseline.json (1 claims)"])
    found = Baselines(folder=pytester.path / ".tuneshift" / "baselines").load("good")
    assert [claim["finding"] for claim in found.record.claims] == ["wu2023.instruction_density_rises"]


def test_a_taken_name_stops_the_run_before_it_measures(suites, pytester):
    storage = ("--shift-storage", pytester.path / "kept")
    suites(*DENSITY, "--shift-save", "good", *storage)
    before = (pytester.path / "kept" / "good" / "baseline.json").read_bytes()
    result = suites(*DENSITY, "--shift-save", "good", *storage, store=pytester.path / "empty")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Baseline 'good' is already there*--shift-overwrite replaces it*"])
    assert not list((pytester.path / "empty").rglob("*.safetensors"))
    assert (pytester.path / "kept" / "good" / "baseline.json").read_bytes() == before
    result = suites(*DENSITY, "--shift-save", "good", "--shift-overwrite", *storage)
    result.stdout.fnmatch_lines(["baseline good: *"])


def test_saving_over_what_is_compared_with_is_refused(suites):
    result = suites(*DENSITY, "--shift-save", "good", "--shift-compare", "good")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*both name 'good'*"])


def test_two_shards_merged_are_the_one_run(suites, pytester, record):
    def text(name):
        lines = (pytester.path / name / "run.json").read_text().splitlines(keepends=True)
        times = ('"started"', '"finished"', '"duration_s"', '"command"', '"exit_code"')
        return "".join(line for line in lines if not line.strip().startswith(times))

    suites("--shift-out", "one")
    suites("-k", "density", "--shift-out", "a")
    suites("-k", "not density", "--shift-out", "b")
    assert main(["merge", "b/run.json", "a/run.json", "-o", "all"]) == 0
    assert text("all") == text("one")
    assert text("a") != text("one")
