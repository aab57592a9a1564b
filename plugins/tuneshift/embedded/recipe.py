"""The family's recipe and where its data lies."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..resources import fixture
from .tasks import Workbook, load_wordings
from .world import load_world

FAMILY = "models/micro"
"""Where the shipped family lies below ``fixtures``."""
PROMPTS = "micro-heldout.jsonl"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model of the family: its name, the member it is tuned from (None: pre-trained), and what is told of it."""

    name: str
    parent: str | None
    about: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Numbers of `fixtures/micro/recipe.toml` by section."""

    seed: int
    tokenizer: Mapping[str, int]
    model: Mapping[str, int]
    corpus: Mapping[str, Any]
    pretraining: Mapping[str, Any]
    tuning: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    members: tuple[Member, ...]

    @property
    def evaluation_options(self) -> dict[str, int]:
        """What the measuring itself depends on: seed of the ranking, limit of new tokens."""
        return {"seed": self.evaluation["seed"], "limit": self.evaluation["limit"]}

    def tuning_of(self, member: Member) -> Mapping[str, Any]:
        """Numbers of a member's tuning: the family's, with the member's own where it has some."""
        return {name: member.options.get(name, value) for name, value in self.tuning.items()}

    def member(self, name: str) -> Member:
        """A member by name; UsageError lists the members otherwise."""
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.members)
        raise UsageError(f"the micro family has no {name!r}; its members are {known}.")


def load_recipe(path: Path | None = None) -> Recipe:
    """The shipped recipe, or one at ``path``."""
    data = tomllib.loads((path or fixture("micro/recipe.toml")).read_text(encoding="utf-8"))
    members = tuple(
        Member(
            name=name,
            parent=row.get("parent"),
            about=row["about"],
            options={key: value for key, value in row.items() if key not in ("parent", "about")},
        )
        for name, row in data.pop("members").items()
    )
    return Recipe(members=members, **data)


def load_workbook(seed: int) -> Workbook:
    """The shipped world and wordings; ``seed`` draws the facts about people."""
    folder = fixture("micro")
    return Workbook(world=load_world(folder / "world.toml", seed=seed), wordings=load_wordings(folder / "tasks.toml"))
