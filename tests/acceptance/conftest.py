"""A clean environment with the wheel of this checkout, made once by a recipe's own line, and checkpoints outside the
repository.

Minutes of pip: `.ci/acceptance` asks for it with ``TUNESHIFT_ACCEPTANCE=1``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import recipes
import torch
from safetensors.torch import load_file, save_file

from tuneshift.resources import fixture

ROOT = Path(__file__).resolve().parents[2]
ASKED = os.environ.get("TUNESHIFT_ACCEPTANCE") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the folder's tests where they were not asked for."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not ASKED:
            item.add_marker(pytest.mark.skip(reason="minutes of pip; .ci/acceptance sets TUNESHIFT_ACCEPTANCE=1"))


@dataclass(frozen=True, kw_only=True)
class Clean:
    """An environment of its own: nothing of this process' but where pip finds packages on this machine."""

    folder: Path
    wheel: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a process in it."""
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return {
            "PATH": os.pathsep.join([str(self.folder / "env" / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(self.folder / "home"), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "CI": "true",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONSTRAINT": str(ROOT / "constraints.txt"), **pip, **more,
        }  # fmt: skip

    def run(
        self, command: str | Sequence[str], cwd: Path, variables: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """A command in it, through bash where it is a line of a recipe."""
        words = ["bash", "-ec", command] if isinstance(command, str) else list(command)
        return subprocess.run(words, cwd=cwd, env=self.environment(**variables), capture_output=True, text=True)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """The environment, with what the recipes' own line installs: the wheel that is built here."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "home").mkdir()
    sources = folder / "sources"  # setuptools leaves its build in the source tree
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, sources / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder / "dist"), str(sources)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    made = Clean(folder=folder, wheel=wheel)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    installed = made.run(recipes.INSTALL, folder, {"TUNESHIFT": wheel.as_uri()})
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return made


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Folders outside the repository; ``damaged`` is ``tuned`` with noise of half of each matrix's spread."""

    base: Path
    tuned: Path
    damaged: Path
    prompts: Path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The embedded pair as a user's own folders, a damaged copy, and 58 prompts that it was not tuned on."""
    folder = tmp_path_factory.mktemp("checkpoints")
    assert ROOT not in folder.parents
    for name, source in (("base", "base"), ("ckpt-1200", "instruct"), ("ckpt-1400", "instruct")):
        shutil.copytree(fixture("models/micro") / source, folder / name)
    generator = torch.Generator().manual_seed(0)
    for path in (folder / "ckpt-1400").glob("*.safetensors"):
        weights = load_file(path)
        noisy = {k: w + 0.5 * w.std() * torch.randn(w.shape, generator=generator) for k, w in weights.items()}
        save_file({name: tensor.contiguous() for name, tensor in noisy.items()}, path, {"format": "pt"})
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(fixture("prompts/micro-heldout.jsonl").read_text().splitlines()[::6]) + "\n")
    return Checkpoints(base=folder / "base", tuned=folder / "ckpt-1200", damaged=folder / "ckpt-1400", prompts=prompts)
