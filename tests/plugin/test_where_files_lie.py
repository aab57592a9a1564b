"""Baselines, pairs and results lie by where the user stands, whatever pytest takes for its rootdir."""

from __future__ import annotations

import json
import shlex

import pytest

from tuneshift.cli import main
from tuneshift.gate.baselines import storage_folder
from tuneshift.session.options import command_line

DENSITY = ("-k", "density_rises")


@pytest.fixture
def project(pytester, tiny_base, tiny_tuned, tmp_path_factory, monkeypatch):
    """A project with an ini file where the user stands, and beside it another repository with both checkpoints, an ini
    file and a baseline of its own."""
    root = tmp_path_factory.mktemp("work")
    here, other = root / "project", root / "checkpoints"
    here.mkdir()
    (here / "pytest.ini").write_text("[pytest]\n")
    (other / ".tuneshift" / "baselines").mkdir(parents=True)
    (other / ".git").mkdir()
    (other / "pytest.ini").write_text("[pytest]\n")
    (other / "pyproject.toml").write_text('[tool.tuneshift.pairs.theirs]\nbase = "base"\ntuned = "tuned"\n')
    (other / "base").symlink_to(tiny_base)
    (other / "tuned").symlink_to(tiny_tuned)
    monkeypatch.chdir(here)
    return root


@pytest.mark.parametrize(
    ("form", "workers"),
    [("joined", ()), ("two words", ()), pytest.param("two words", ("-n", "2"), marks=pytest.mark.nightly)],
    ids=str,
)
def test_a_checkpoint_elsewhere_moves_nothing(project, pytester, warm_store, tiny_prompts, form, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    run = pytester.runpytest_subprocess if workers else pytester.runpytest
    here, other = project / "project", project / "checkpoints"
    words = [("--base", str(other / "base")), ("--tuned", str(other / "tuned"))]
    pair = ["=".join(pair) for pair in words] if form == "joined" else [word for pair in words for word in pair]
    # By name, so that the checkpoints are the only paths there are.
    common = ("--pyargs", "tuneshift.suites.test_instruction_recognition", *DENSITY, *pair, *workers, "--color=no",
              f"--shift-store={warm_store}", "--shift-max-new-tokens=12", f"--shift-prompts={tiny_prompts}",
              "-p", "no:cacheprovider", "-p", "no:hypothesispytest")  # fmt: skip
    result = run(*common, "--shift-save=good")
    result.stdout.fnmatch_lines([f"tuneshift: baselines {here / '.tuneshift' / 'baselines'}", "baseline good: *"])
    assert (here / ".tuneshift" / "baselines" / "good" / "baseline.json").is_file()
    assert not list((other / ".tuneshift" / "baselines").iterdir())
    assert (here / "tuneshift-results" / "report.html").is_file()
    run(*common, "--shift-compare=good").stdout.fnmatch_lines(["1 held; *"])
    assert main(["gate", "tuneshift-results/run.json", "--baseline", "good"]) == 0
    if form == "joined":
        result.stdout.no_fnmatch_line("tuneshift: pytest read *")
    else:
        result.stdout.fnmatch_lines(
            [
                f"tuneshift: pytest read {other / 'pytest.ini'}, because --base and {other / 'base'} are two words; "
                f"write --base={other / 'base'}",
                f"rootdir: {other}",
            ]
        )


def test_pairs_are_the_projects_and_not_those_beside_the_checkpoint(suites, project, tiny_prompts):
    here, other = project / "project", project / "checkpoints"
    (here / "pyproject.toml").write_text(
        f'[tool.tuneshift.pairs.ours]\nbase = "{other / "base"}"\ntuned = "{other / "tuned"}"\n'
    )
    (here / "suites" / "deeper").mkdir(parents=True)
    result = suites("--shift-plan", "--shift-prompts", tiny_prompts, f"--rootdir={other}", pair=())
    result.stdout.fnmatch_lines(["tuneshift: pair ours: base -> tuned"])
    result.stdout.no_fnmatch_line("*theirs*")


def test_the_nearest_kept_folder_wins_then_the_nearest_project_then_here(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESHIFT_STORAGE", raising=False)
    deep = tmp_path / "repository" / "package" / "suites"
    deep.mkdir(parents=True)
    (tmp_path / ".tuneshift").mkdir()  # above the repository
    (tmp_path / "repository" / ".git").write_text("gitdir: elsewhere")
    assert storage_folder(None, deep) == deep / ".tuneshift" / "baselines"
    (tmp_path / "repository" / "pyproject.toml").write_text("")
    assert storage_folder(None, deep) == tmp_path / "repository" / ".tuneshift" / "baselines"
    (tmp_path / "repository" / "package" / "pyproject.toml").write_text("")
    assert storage_folder(None, deep) == tmp_path / "repository" / "package" / ".tuneshift" / "baselines"
    (tmp_path / "repository" / ".tuneshift").mkdir()
    assert storage_folder(None, deep) == tmp_path / "repository" / ".tuneshift" / "baselines"
    monkeypatch.setenv("TUNESHIFT_STORAGE", str(tmp_path / "named"))
    assert storage_folder(None, deep) == tmp_path / "named"
    assert storage_folder(tmp_path / "asked", deep) == tmp_path / "asked"


def test_the_recorded_command_joins_our_options_to_their_values(suites, record, tiny_base, tiny_tuned):
    suites(*DENSITY)
    command = shlex.split(record()["run"]["command"])
    ours = {f"--base={tiny_base}", f"--tuned={tiny_tuned}", "--shift-max-new-tokens=12", "-k", "density_rises"}
    assert ours <= set(command)
    assert command_line(["--tuned=a b", "--shift-plan", "--pair", "x", "--base"]) == (
        "pytest '--tuned=a b' --shift-plan --pair=x --base"
    )


def test_the_gate_and_its_kin_know_pytests_names(suites, pytester):
    suites(*DENSITY)
    record, storage = "tuneshift-results/run.json", ["--shift-storage", "kept"]
    bless = ["bless", record, "--shift-save", "good", *storage]
    assert main(bless) == 0
    assert main(bless) == 4
    assert main([*bless, "--shift-overwrite"]) == 0
    margin = ["--shift-margin", "wu2023.instruction_density_rises=0.2"]
    gate = ["gate", record, "--shift-compare", "good", *margin, "--shift-gate-inconclusive", "pass"]
    assert main([*gate, *storage, "--shift-out", "gated"]) == 0
    gated = json.loads((pytester.path / "gated" / "run.json").read_text())
    assert gated["claims"][0]["comparison"]["margin"] == 0.2
    assert main(["merge", record, record, "--shift-out", "merged"]) == 0
    assert (pytester.path / "merged" / "run.json").is_file()
