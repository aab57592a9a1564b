"""The CI recipes in docs/ci, read: their variables and commands, in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "ci"
INSTALL = 'python -m pip install "tuneshift[minilm] @ $TUNESHIFT"'
"""The line that every recipe installs by: from the repository, as the package is on no index."""
GATE = 'pytest --pyargs tuneshift.suites --base="$BASE" --tuned="$TUNED" --shift-compare=good --shift-min-power=12'


def saving(gate: str) -> str:
    """The same line to save the baseline by, of which no power is asked."""
    return gate.replace("--shift-compare", "--shift-save").replace(" --shift-min-power=12", "")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe's variables and the commands of its installation, its gate and its comment."""

    variables: dict[str, str]
    install: str
    gate: str
    comment: str
    data: Any


def github() -> Recipe:
    """The workflow of GitHub Actions."""
    data = yaml.safe_load((FOLDER / "github-actions.yml").read_text())
    steps = {step.get("name", step.get("uses")): step for step in data["jobs"]["gate"]["steps"]}
    install, gate, comment = (steps[name]["run"] for name in ("Install", "Compare with the baseline", "Comment"))
    return Recipe(variables=data["env"], install=install, gate=gate, comment=comment, data=data)


def gitlab() -> Recipe:
    """The job of GitLab."""
    data = yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())
    job = data["tuneshift"]
    (install,), (gate,) = job["before_script"], job["script"]
    return Recipe(
        variables=job["variables"], install=install, gate=gate, comment="\n".join(job["after_script"]), data=data
    )
