"""What is known to be too little before anything is measured: clusters, layers and verbs of the claims asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoints.files import locate_adapter, read_json
from ..claims.expectations import expected_outcome
from ..claims.finding import Finding
from ..claims.view import NotApplicable
from ..plain import Json
from ..quantities.verb_relations import ALL, GENERAL, INSTRUCTION, MIN_NEURONS, verb_changes, win_rates
from ..statistics.intervals import fewest_clusters
from ..statistics.matched import fewest_sets
from ..words.vocabulary import instruction_verbs, load_vocabulary
from .requests import Target
from .run import RunSession

if TYPE_CHECKING:
    from .console import Terminal

ATTENTION = ("q", "k", "query", "key", "qkv", "attn", "all-linear")
"""Parts of the names of modules that make queries and keys, or may."""


def shortages(run: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> Iterator[tuple[Finding, Target, str]]:
    """The claims that will have too little to be decided, each with what and why; none of those that do not apply.

    Prompts count as clusters, layers as layers. Verbs are those of the pair's vocabulary, and where both checkpoints'
    relations are stored, those of them that tuning changed; an adapter that leaves queries and keys alone changes none.
    """
    for finding, target in wanted:
        if run.inapplicable(finding, target) is not None:
            continue
        level = 1 - run.options.alpha / run.family_size(finding)
        if finding.items == "verbs":
            said = _verbs(run, finding, target, level)
        elif target.prompts is None and target.pair.tuned.evidence is not None:
            continue  # how many layers there were is in the evidence
        elif target.prompts is None:
            said = _units("layers", run.planner.shape(target.pair.tuned)[0], level)
        else:
            said = _units("clusters of prompts", len({prompt.unit for prompt in target.members}), level)
        if said is not None:
            yield finding, target, said


def shortage_lines(run: RunSession, wanted: Sequence[tuple[Finding, Target]], *, declared: bool) -> list[str]:
    """A line for each shortage; without ``declared``, none for claims whose outcome the pair declares."""
    return [
        f"{finding.id} on {target.id} can hardly be decided: {said}"
        for finding, target, said in shortages(run, wanted)
        if declared or not expected_outcome(run.expectations[target.pair.name], finding.id, target.on, target.group)
    ]


def foretell(terminal: Terminal, run: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> None:
    """Say before a run what it will not decide, but for claims whose outcome is declared."""
    for line in shortage_lines(run, wanted, declared=False):
        terminal.write_line(f"tuneshift: {line}", yellow=True)


def _units(what: str, count: int, level: float) -> str | None:
    fewest = fewest_clusters(level)
    if count >= fewest:
        return None
    return f"{count} {what}; at this level an interval takes {fewest}, but for values of a known range"


def _verbs(run: RunSession, finding: Finding, target: Target, level: float) -> str | None:
    pair, fewest = target.pair, fewest_sets(level)
    adapter = None if pair.tuned.evidence is not None else locate_adapter(pair.tuned)
    if adapter is not None and _leaves_attention(read_json(adapter / "adapter_config.json")):
        return "the adapter leaves queries and keys as they are, so that no head can gain or lose a verb"
    if (changed := _changed(run, finding, target)) is not None:
        said = "{} general and {} instruction verbs that some head gained or lost".format(*changed)
        return None if changed[1] >= fewest else f"{said}, and at this level it takes {fewest} instruction verbs"
    if pair.recorded is not None:
        return None  # its vocabulary may be a file elsewhere
    known = set(load_vocabulary(run.planner.words(pair)).words)
    found = sum(verb in known for verb in instruction_verbs())
    said = f"the vocabulary has {found} instruction verbs, and at this level it takes {fewest} that tuning changed"
    return None if found >= fewest else said


def _leaves_attention(config: Json) -> bool:
    """Whether a LoRA adapter changes nothing that a head's relations are read from."""
    modules = config.get("target_modules")
    names = [modules] if isinstance(modules, str) else modules
    if not isinstance(names, list) or not names or config.get("modules_to_save"):
        return False
    parts = {part for name in names for part in str(name).lower().replace(".", "_").split("_")}
    return not any(part.startswith(ATTENTION) or part in ("wqkv", "embed", "tokens", "wte") for part in parts)


def _changed(run: RunSession, finding: Finding, target: Target) -> tuple[int, int] | None:
    """General and instruction verbs that some head gained or lost, where both sides' relations are known already."""
    if any(not run.store.status(task.key, task.ids).complete for task in run.tasks(finding, target)):
        return None
    try:
        verbs = verb_changes(run.claim(finding, target, conclude=lambda _: None).view, MIN_NEURONS)
    except NotApplicable:
        return None
    changed = np.isfinite(win_rates(*verbs.counts(ALL)))
    return int(np.sum(changed & verbs.of(GENERAL))), int(np.sum(changed & verbs.of(INSTRUCTION)))
