"""A new user's walk: the wheel in a clean environment, own checkpoints, a baseline, a damaged checkpoint, a red gate
that names prompts, and the report in a browser."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from chromium import CHROMIUM, FLAGS, needs_chromium

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the user stands in."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def walk(clean, checkpoints, project):
    """``walk(tuned, *options)``: the suites of the installed package on a checkpoint; the result and its record."""

    def run(tuned: Path, *options: str):
        command = [
            "pytest", "--pyargs", "tuneshift.suites", f"--base={checkpoints.base}", f"--tuned={tuned}",
            "--shift-prompts", str(checkpoints.prompts), "--shift-max-new-tokens", "40", "-n", "2", *options,
        ]  # fmt: skip
        done = clean.run(command, project, {"TUNESHIFT_STORE": str(project / "store")})
        return done, json.loads((project / "tuneshift-results" / "run.json").read_text())

    return run


@pytest.fixture(scope="module")
def saved(walk, checkpoints):
    """The first run, kept as the baseline."""
    return walk(checkpoints.tuned, "--shift-save=good", "--shift-inconclusive=pass")


@pytest.fixture(scope="module")
def red(walk, checkpoints, saved):
    """The run of the damaged checkpoint against it."""
    return walk(checkpoints.damaged, "--shift-compare=good")


def test_the_environment_holds_the_wheel_and_nothing_of_the_checkout(clean, project):
    where = clean.run(["python", "-c", "import tuneshift; print(tuneshift.__file__)"], project).stdout.strip()
    assert (clean.folder / "env") in Path(where).parents
    assert ROOT not in Path(where).parents
    doctor = clean.run(["tuneshift", "doctor"], project)
    assert doctor.returncode == 0, doctor.stdout


def test_every_claim_of_the_catalogue_is_made_or_does_not_apply(saved, project):
    done, record = saved
    assert record["errors"] == [], done.stdout
    assert len(record["claims"]) == 20
    failed = [c["finding"] for c in record["claims"] if c["verdict"] == "contradicted"]
    assert done.returncode == (1 if failed else 0), done.stdout
    silent = {c["finding"] for c in record["claims"] if c["verdict"] == "not_applicable"}
    siblings = {"response_tuning_yields_following", "single_task_yields_following", "style_fades_off_domain"}
    assert silent <= {f"hewitt2024.{name}" for name in siblings}, "an extra is missing from the recipe's line"
    assert (project / ".tuneshift" / "baselines" / "good" / "baseline.json").is_file()


def test_the_same_checkpoint_is_green(walk, checkpoints, saved):
    done, record = walk(checkpoints.tuned, "--shift-compare=good")
    assert done.returncode == 0, done.stdout
    assert {c["comparison"]["outcome"] for c in record["claims"]} <= {"held", "not_compared"}


def test_a_damaged_checkpoint_is_red_and_prompts_are_named(red, checkpoints):
    done, record = red
    assert done.returncode == 1, done.stdout
    (lost,) = [c for c in record["claims"] if c["finding"] == "hewitt2024.tuned_follows"]
    assert lost["comparison"]["outcome"] == "regressed"
    known = {json.loads(line)["id"] for line in checkpoints.prompts.read_text().splitlines()}
    named = re.search(r"hewitt2024\.tuned_follows: regressed.*?lost most on: ([^\n]*)", done.stdout, re.S)
    assert named, done.stdout
    assert len(named[1].split(", ")) == 5
    assert set(named[1].split(", ")) <= known


@needs_chromium
def test_the_report_opens_in_a_browser_and_says_so(red, project, tmp_path):
    assert CHROMIUM is not None
    report = project / "tuneshift-results" / "report.html"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", report.as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    page = html.unescape(done.stdout)
    assert re.search(r"<h1[^>]*>\d+ of 20 claims regressed against baseline good\.", page)
    assert 'id="theme"' in page
    assert re.search(r'<button type="button" id="theme">(Dark|Light)</button>', page), "the report's script did not run"
    (lost,) = [c for c in red[1]["claims"] if c["finding"] == "hewitt2024.tuned_follows"]
    assert f"Lost most on {', '.join(lost['comparison']['fallen'])}" in page
