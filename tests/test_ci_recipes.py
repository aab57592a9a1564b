"""What the CI recipes in docs/ci hold; tests/acceptance runs their commands in a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

pytest.importorskip("yaml", reason="PyYAML is not installed")
import recipes

READ = {"github-actions.yml": recipes.github, "gitlab-ci.yml": recipes.gitlab}
KEPT = {"TUNESHIFT_STORE", "HF_HOME", "PIP_CACHE_DIR"}


@pytest.mark.parametrize("name", READ)
def test_a_recipe_installs_from_the_repository_and_gates_by_the_same_lines(name):
    recipe = READ[name]()
    assert recipe.install == recipes.INSTALL
    assert recipe.variables["TUNESHIFT"].startswith("git+https://")
    assert recipe.gate == f"{recipes.GATE} --junitxml=tuneshift-results/junit.xml"


@pytest.mark.parametrize("name", READ)
def test_a_recipe_keeps_evidence_hub_and_packages_also_of_a_red_gate(name):
    recipe = READ[name]()
    assert {recipe.variables[variable].partition("/")[0] for variable in KEPT} == {".cache"}
    if name.startswith("gitlab"):
        assert recipe.data["tuneshift"]["cache"] == {"key": "tuneshift", "when": "always", "paths": [".cache"]}
        return
    steps = [step for step in recipe.data["jobs"]["gate"]["steps"] if "cache" in step.get("uses", "")]
    restore, save = steps
    assert restore["with"]["path"] == save["with"]["path"] == ".cache"
    assert save["if"] == "always()"
    assert save["with"]["key"].startswith(restore["with"]["restore-keys"])
    assert "github.run_id" in save["with"]["key"], "a cache is never written twice: each run needs a key of its own"


@pytest.mark.parametrize("name", [*READ, "slurm.sh"])
def test_a_recipe_says_where_tokens_and_gpus_come_in_and_comments(name):
    text = (recipes.FOLDER / name).read_text()
    for words in ("HF_TOKEN", "gpu", "no package index", "summary.md", "tuneshift[minilm]"):
        assert words in text, words
    assert "gh pr comment" in text or "/notes" in text


def test_the_slurm_script_is_one_and_gates_by_the_same_lines():
    path = recipes.FOLDER / "slurm.sh"
    text = path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert recipes.INSTALL.removeprefix("python ") in text
    assert recipes.GATE.removeprefix("pytest ") in text
    for variable in KEPT:
        assert f"{variable}=$shared/" in text
    heads = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert any("--gres=gpu" in line for line in heads)
    assert any("--signal=B:TERM@" in line for line in heads)
    assert "#SBATCH" not in text.partition("set -euo")[2], "SLURM reads no line after the first command"


def test_the_slurm_script_passes_the_end_of_its_time_on_and_ends_as_the_run(tmp_path):
    environment = tmp_path / "tuneshift" / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "installed").touch()
    (environment / "bin" / "pytest").write_text(
        "#!/bin/bash\ntrap 'sleep 0.3; touch kept; exit 143' TERM\ntouch started\nwhile true; do sleep 0.05; done\n"
    )
    (environment / "bin" / "pytest").chmod(0o755)
    process = subprocess.Popen(
        ["bash", str(recipes.FOLDER / "slurm.sh")], cwd=tmp_path, env={**os.environ, "SCRATCH": str(tmp_path)}
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert (tmp_path / "kept").exists(), "the script ended before the run"
