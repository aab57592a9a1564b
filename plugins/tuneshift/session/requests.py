"""What a run is asked for: its options as the command line gave them, and the targets that a finding is tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.settings import Settings
from ..pairs import ModelPair
from ..plain import NOTHING
from ..prompts.prompt import Prompt, PromptSet

RESPONSES: Mapping[str, str] = {
    "own": "each model's own response",
    "reference": "the reference as shared response",
    "tuned": "the tuned model's response, shared",
}

MAKE: Mapping[str, str] = {
    "response_tuned": "`tuneshift tune BASE --how response --data FILE --out DIR` makes one",
    "single_task_tuned": "`tuneshift tune BASE --how single-task --data FILE --out DIR` makes one",
}
WEIGHTS = "weights"
"""What stands for the prompt set's name in a claim on weights."""


@dataclass(frozen=True, kw_only=True)
class Gating:
    """Baselines that a run is saved as and compared with, by name; ``storage`` is where they lie."""

    storage: Path
    save: str | None = None
    compare: str | None = None
    overwrite: bool = False
    margins: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    allow_missing: bool = False
    min_power: Mapping[str | None, float] = field(default_factory=dict)
    """Finding -> the loss in its unit, None -> the loss in margins, that must be red in 80 % of runs."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for, as it came from the command line."""

    base: str | None
    tuned: tuple[str, ...]
    """Each makes a pair with ``base``."""
    pairs_file: Path | None
    pair_names: tuple[str, ...]
    prompts: tuple[str, ...]
    store: Path
    settings: Settings
    alpha: float
    here: Path
    """The folder where the user stands: files of the project are looked up from it."""
    gating: Gating
    evidence: tuple[Path, ...] = ()
    """Evidence files whose pairs are run in place of those that the options above name."""
    update_expectations: bool = False
    """Whether the pairs' expectations files are rewritten from the run's outcomes."""
    noise_floor: bool = False
    """Whether everything is measured a second time, in another dtype and other batches."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a finding's test is parametrised by: a pair, one of its prompt sets, and one group of that set.

    ``prompts`` is None for a finding on weights. ``brought``: the finding brings the set, whatever the pair's are.
    """

    pair: ModelPair
    prompts: PromptSet | None
    group: str
    brought: bool = False

    @property
    def id(self) -> str:
        """``pair:NAME``, with prompt set and group where the pair has several, joined by commas."""
        parts = [f"pair:{self.pair.name}"]
        if self.prompts is None:
            return parts[0]
        if self.brought or len(self.pair.prompts) > 1:
            parts.append(self.prompts.name)
        if self.prompts.groups != ("all",):
            parts.append(self.group)
        return ",".join(parts)

    @property
    def on(self) -> str:
        """The prompt set's name, `WEIGHTS` for a finding on weights: what a claim says that it is about."""
        return self.prompts.name if self.prompts else WEIGHTS

    @property
    def members(self) -> tuple[Prompt, ...]:
        """The group's prompts, in file order; none for a finding on weights."""
        return tuple(p for p in self.prompts.prompts if p.group == self.group) if self.prompts else ()
