"""The recipes in docs/ci, line by line as they stand, in a clean environment, on checkpoints outside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import recipes

FEW = "-k base_ranks_responses -p no:cacheprovider --shift-prompts {prompts}"


def told(folder: Path, name: str) -> Path:
    """A program of that name, first on the PATH, that writes down what it is asked."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{folder}/{name}.asked"\n')
    program.chmod(0o755)
    return folder / f"{name}.asked"


def variables(recipe, clean, checkpoints, folder: Path) -> dict[str, str]:
    """What the user sets, the service's own, and few prompts; pip finds torch on this machine and not at PyTorch's."""
    own = {name: value for name, value in recipe.variables.items() if name != "PIP_EXTRA_INDEX_URL"}
    path = f"{folder / 'bin'}:{clean.environment()['PATH']}"
    return {
        **own, "TUNESHIFT": clean.wheel.as_uri(), "BASE": str(checkpoints.base), "TUNED": str(checkpoints.tuned),
        "PATH": path, "PYTEST_ADDOPTS": FEW.format(prompts=checkpoints.prompts),
        "GITHUB_STEP_SUMMARY": str(folder / "step.md"), "NUMBER": "7", "GH_TOKEN": "t", "CI_MERGE_REQUEST_IID": "7",
        "GITLAB_TOKEN": "t", "CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "3",
    }  # fmt: skip


@pytest.mark.parametrize("read", [recipes.github, recipes.gitlab], ids=["github", "gitlab"])
def test_the_recipe_installs_gates_keeps_evidence_and_comments(read, clean, checkpoints, tmp_path):
    recipe = read()
    given = variables(recipe, clean, checkpoints, tmp_path)
    asked = {name: told(tmp_path, name) for name in ("gh", "curl")}

    def run(command: str, **more: str):
        return clean.run(command, tmp_path, {**given, **more})

    assert recipe.install == recipes.INSTALL
    installed = run(recipe.install)
    assert installed.returncode == 0, installed.stderr
    missing = run(recipe.gate)
    assert missing.returncode == 4, missing.stdout + missing.stderr
    assert "There is no baseline 'good'" in missing.stderr
    saved = run(recipes.saving(recipe.gate))
    assert saved.returncode == 0, saved.stdout + saved.stderr
    green = run(recipe.gate)
    assert green.returncode == 0, green.stdout + green.stderr
    assert "3 held" in green.stdout
    assert (tmp_path / "tuneshift-results" / "junit.xml").is_file()
    assert list((tmp_path / ".cache" / "tuneshift").rglob("key.json")), "the evidence store is not in what is cached"
    summary = (tmp_path / "tuneshift-results" / "summary.md").read_text()
    assert (tmp_path / "step.md").read_text().endswith(summary)
    commented = run(recipe.comment)
    assert commented.returncode == 0, commented.stderr
    said = "".join(path.read_text() for path in asked.values() if path.exists())
    assert "tuneshift-results/summary.md" in said
    assert "7" in said


def test_the_slurm_script_installs_once_gates_and_ends_as_the_gate(clean, checkpoints, tmp_path):
    script = recipes.FOLDER / "slurm.sh"
    told(tmp_path, "gh")
    # The script's folder is the clean one, so that it finds the packages there whose installation took minutes.
    shared = tmp_path / "scratch" / "tuneshift"
    shared.parent.mkdir()
    shared.symlink_to(clean.folder)
    given = {
        "TUNESHIFT": clean.wheel.as_uri(), "BASE": str(checkpoints.base), "TUNED": str(checkpoints.tuned),
        "SCRATCH": str(tmp_path / "scratch"), "PULL_REQUEST": "7", "TUNESHIFT_STORAGE": str(tmp_path / "kept"),
        "PATH": f"{tmp_path / 'bin'}:{clean.environment()['PATH']}",
        "PYTEST_ADDOPTS": FEW.format(prompts=checkpoints.prompts),
    }  # fmt: skip
    missing = clean.run(["bash", str(script)], tmp_path, given)
    assert missing.returncode == 4, missing.stdout + missing.stderr
    assert (shared / "env" / "installed").is_file()
    save = recipes.saving(recipes.GATE)
    store = {"TUNESHIFT_STORE": str(shared / "store")}
    assert clean.run(save, tmp_path, {**given, **store}).returncode == 0
    green = clean.run(["bash", str(script)], tmp_path, given)
    assert green.returncode == 0, green.stdout + green.stderr
    assert "Processing" not in green.stdout, "pip ran again"
    assert "Against baseline good: 3 held." in green.stdout
    assert "tuneshift-results/summary.md" in (tmp_path / "gh.asked").read_text()
