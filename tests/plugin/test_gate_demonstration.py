"""The gate on the embedded tuned checkpoint and copies of it: noise and tuning that is all but undone regress,
half-undone tuning and the same weights hold, and twenty prompts do not decide a small change but say how many would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneshift.resources import data_folder, fixture

FAMILY = fixture("models/micro")
FINDING = "hewitt2024.tuned_follows"


def perturbed(folder: Path, change: Callable) -> Path:
    """A copy of the embedded tuned checkpoint, each of whose weights ``change(tuned, base)`` has replaced."""
    shutil.copytree(FAMILY / "instruct", folder)
    for path in folder.glob("*.safetensors"):
        base = load_file(FAMILY / "base" / path.name)
        tuned = load_file(path)
        save_file({name: change(tuned[name], base[name]).contiguous() for name in tuned}, path, {"format": "pt"})
    return folder


def noisy(size: float) -> Callable:
    """Adds normal noise of ``size`` times each weight matrix's standard deviation."""
    generator = torch.Generator().manual_seed(0)
    return lambda tuned, base: tuned + size * tuned.std() * torch.randn(tuned.shape, generator=generator)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> dict[int, Path]:
    """The first so many of every third prompt that the family was not tuned on."""
    rows = fixture("prompts/micro-heldout.jsonl").read_text().splitlines()[::3]
    folder = tmp_path_factory.mktemp("prompts")
    found = {}
    for n in (116, 20):
        found[n] = folder / f"heldout-{n}.jsonl"
        found[n].write_text("\n".join(rows[:: 116 // n][:n]) + "\n")
    return found


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory) -> Path:
    """Where evidence and baselines of all tests lie: the embedded checkpoint is measured once."""
    return tmp_path_factory.mktemp("demonstration")


@pytest.fixture
def gated(pytester, prompts, demonstration):
    """``gated(tuned, n)``: the comparison of a checkpoint with the embedded one on n prompts, and the exit code."""

    def run(tuned: Path, n: int):
        def suites(checkpoint: Path, *options: object) -> pytest.RunResult:
            return pytester.runpytest_subprocess(
                data_folder("suites") / "test_implicit_following.py", "-k", "tuned_follows", "-p", "no:cacheprovider",
                "-p", "no:hypothesispytest", "--color=no", "--base", FAMILY / "base", "--tuned", checkpoint,
                "--shift-prompts", prompts[n],
                "--shift-max-new-tokens", "40", "--shift-store", demonstration / "store",
                "--shift-storage", demonstration / "kept", *options,
            )  # fmt: skip

        name = f"good-{n}"
        if not (demonstration / "kept" / name).exists():
            suites(FAMILY / "instruct", "--shift-save", name)
        result = suites(tuned, "--shift-compare", name)
        claim = json.loads((pytester.path / "tuneshift-results" / "run.json").read_text())["claims"][0]
        assert claim["finding"] == FINDING
        return claim["comparison"], result.ret

    return run


@pytest.mark.nightly
def test_noise_in_the_weights_regresses(gated, tmp_path):
    held, code = gated(perturbed(tmp_path / "noise", noisy(0.5)), 116)
    assert (held["outcome"], code) == ("regressed", 1)
    assert held["interval"][1] < -held["margin"]


@pytest.mark.nightly
def test_half_undone_tuning_still_follows_and_holds(gated, tmp_path):
    held, code = gated(perturbed(tmp_path / "half", lambda tuned, base: (tuned + base) / 2), 116)
    assert (held["outcome"], code) == ("held", 0)
    assert held["interval"][0] < 0 < held["interval"][1]


@pytest.mark.nightly
def test_tuning_of_which_a_twentieth_is_left_regresses(gated, tmp_path):
    held, code = gated(perturbed(tmp_path / "undone", lambda tuned, base: base + (tuned - base) / 20), 116)
    assert (held["outcome"], code) == ("regressed", 1)


def test_the_same_weights_elsewhere_hold(gated, tmp_path):
    held, code = gated(perturbed(tmp_path / "same", lambda tuned, base: tuned), 116)
    assert (held["outcome"], held["effect"], held["n"], code) == ("held", 0.0, 116, 0)


@pytest.mark.nightly
def test_twenty_prompts_are_inconclusive_and_say_how_many_would_decide(gated, tmp_path):
    held, code = gated(perturbed(tmp_path / "slight", noisy(0.2)), 20)
    assert (held["outcome"], held["n"], code) == ("inconclusive", 20, 0)  # yellow: nobody can act on it
    assert held["n_needed"] > 20
    assert "does not rule out one past the margin -0.05" in held["reason"]
