"""``--shift-save``: a run is kept as a baseline, once, and only on purpose."""

from __future__ import annotations

import json

import pytest

from tuneshift.cli import main
from tuneshift.gate.baselines import Baselines

DENSITY = ("-k", "density_rises")


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_the_run_is_kept_below_the_rootdir_and_the_terminal_says_where(suites, pytester, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    result = suites(*DENSITY, "--shift-save", "good", f"--rootdir={pytester.path}", *workers, new_process=bool(workers))
    result.stdout.fnmatch_lines(["baseline good: *baseline.json (1 claim)"])
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
    def kept(name):
        data = json.loads((pytester.path / name / "run.json").read_text())
        for field in ("started", "finished", "duration_s", "command", "exit_code", "selection", "gate"):
            data["run"].pop(field, None)
        del data["sha256"]
        return data

    suites("--shift-out", "one")
    suites("-k", "density", "--shift-out", "a")
    suites("-k", "not density", "--shift-out", "b")
    assert main(["merge", "b/run.json", "a/run.json", "-o", "all"]) == 0
    assert kept("all") == kept("one")
    assert kept("a") != kept("one")
    selections = [json.loads((pytester.path / name / "run.json").read_text())["run"]["selection"]
                  for name in ("all", "one", "a")]  # fmt: skip
    assert selections[0] is None  # what shards together lack is missing
    assert [len(selection) for selection in selections[1:]] == [4, 2]  # of one module, of -k
