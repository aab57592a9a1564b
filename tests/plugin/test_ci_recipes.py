"""The CI recipes in docs/ci: their commands are run with a baseline, and stop where it is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
RECIPES = Path(__file__).resolve().parents[2] / "docs" / "ci"


def recipe(name: str) -> tuple[dict[str, str], list[str]]:
    """The environment of a recipe and its commands but for the installation."""
    data = yaml.safe_load((RECIPES / name).read_text())
    if name.startswith("github"):
        commands = [step["run"] for step in data["jobs"]["gate"]["steps"] if "run" in step]
        environment = data["env"]
    else:
        job = data["tuneshift"]
        commands, environment = [*job["before_script"], *job["script"]], job["variables"]
    assert commands[0] == "pip install tuneshift"
    return environment, commands[1:]


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_commands_of_the_recipe_pass_against_the_same_checkpoint(name, tmp_path):
    environment, commands = recipe(name)
    shim = tmp_path / "bin" / "pytest"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pytest "$@"\n')  # of this environment, installed or not
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), os.environ["PATH"]])
    few = "-k base_ranks_responses -p no:cacheprovider --shift-prompts micro-heldout"
    variables = {
        **os.environ,
        **environment,
        "PATH": path,
        "PYTEST_ADDOPTS": few,
        "TUNESHIFT_STORE": str(tmp_path / "s"),
    }

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=variables, capture_output=True, text=True)

    for command in commands:
        missing = run(command)
        assert missing.returncode == 4
        assert "There is no baseline 'good'" in missing.stderr
        assert " --shift-min-power=" in command
        run(re.sub(r" --shift-min-power=\S+", "", command).replace("--shift-compare", "--shift-save"))
        done = run(command)
        assert done.returncode == 0, done.stdout
        assert "3 held" in done.stdout
    assert (tmp_path / "tuneshift-results" / "junit.xml").is_file()
