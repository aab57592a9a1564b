"""How far an annotator agrees with the hand-labelled lists: Cohen's kappa, confusion tables, bootstrap intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..files import cache_folder, publish
from ..parse import parse_json
from ..plain import Json, digest
from ..resources import fixture
from ..statistics.kappa import FAILED, SEED, kappa_figure, kappa_of, kappa_text
from ..statistics.misclassification import Youden
from .base import LEVELS, TASKS, USER_TASKS, Annotator, Label
from .registry import make_annotator

if TYPE_CHECKING:
    from ..statistics.kappa import Kappa

LABELLED = "annotation/labelled.jsonl"
HELD_OUT = "held-out"
ANY = "any"
CATEGORIES = (*TASKS, ANY, "none")
LEVEL_NAMES = (*LEVELS, "abstain")
VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A word list with its label. ``half``: ``calibration`` (thresholds may look at it) or ``held-out``."""

    id: str
    words: tuple[str, ...]
    label: Label
    half: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An annotator against the labelled lists: kappa per task (``any`` of writing, coding and math; ``none`` of all
    four) and for the levels.

    ``lists`` and ``seeds`` are how many; ``failed`` counts lists without a label, over seeds.
    """

    annotator: Mapping[str, Json]
    half: str
    lists: int
    seeds: int
    failed: int
    tasks: tuple[Kappa, ...]
    levels: Kappa
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Json]:
        """JSON for the run record, to stand beside every verdict that rests on the annotator."""
        return {
            "annotator": dict(self.annotator),
            "half": self.half,
            "lists": self.lists,
            "seeds": self.seeds,
            "failed": self.failed,
            "tasks": [kappa.plain() for kappa in self.tasks],
            "levels": self.levels.plain(),
            "notes": list(self.notes),
        }


def labelled_lists(path: Path | None = None) -> tuple[Labelled, ...]:
    """The labelled lists of a JSONL file (default: the shipped ones), in file order.

    Raises UsageError with file and line for a line that departs from ``fixtures/annotation/README.md``.
    """
    source = fixture(LABELLED) if path is None else path
    found: dict[str, Labelled] = {}
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = parse_json(line)
            label = Label(tasks=frozenset(row["tasks"]), level=row["level"])
            item = Labelled(id=row["id"], words=tuple(row["words"]), label=label, half=row["half"])
            if item.id in found or item.half not in ("calibration", HELD_OUT) or not item.words:
                raise ValueError("ids are unique, words not empty, and half is 'calibration' or 'held-out'")
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{source}:{number}: not a labelled list ({type(error).__name__}: {error}).") from error
        found[item.id] = item
    return tuple(found.values())


def agreement(
    annotator: Annotator, lists: Sequence[Labelled] | None = None, *, half: str = HELD_OUT, seed: int = SEED
) -> Agreement:
    """An annotator's agreement with one half of the labelled lists.

    With several seeds, kappa is the mean of the seeds' kappas and a resample takes a list with all its seeds. A list
    that the annotator failed on counts as a disagreement. Raises what `Annotator.annotate` raises, and ValueError where
    the half has no lists.
    """
    chosen = [item for item in (labelled_lists() if lists is None else lists) if item.half == half]
    if not chosen:
        raise ValueError(f"no labelled list is in the half {half!r}")
    given = [annotator.annotate([item.words for item in chosen], s) for s in annotator.seeds]
    tasks = tuple(_task(category, chosen, given, seed) for category in CATEGORIES)
    truth = [_level(item.label) for item in chosen]
    answers = [[_level(label) for label in row] for row in given]
    return Agreement(
        annotator=annotator.identity,
        half=half,
        lists=len(chosen),
        seeds=len(given),
        failed=sum(label is None for row in given for label in row),
        tasks=tasks,
        levels=kappa_of("level", truth, answers, LEVEL_NAMES, seed=seed),
        notes=tuple(annotator.notes()),
    )


def cached_agreement(annotator: Annotator, cache: Path | None = None) -> dict[str, Json]:
    """`agreement` on the shipped held-out half as plain JSON, worked out once per annotator, lists and version.

    ``cache`` is a folder, by default in the user's cache. A damaged or unwritable entry is worked out again.
    """
    if (kept := kept_agreement(annotator, cache)) is not None:
        return kept
    found = agreement(annotator).plain()
    path = _kept_at(annotator, cache)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, json.dumps(found, indent=1).encode())
    except OSError:
        pass  # a cache only saves time
    return found


def kept_agreement(annotator: Annotator, cache: Path | None = None) -> dict[str, Json] | None:
    """What `cached_agreement` has worked out before; None where it has not, or the entry is damaged. Asks nobody."""
    try:
        kept = parse_json(_kept_at(annotator, cache).read_bytes())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and {"tasks", "levels", "lists"} <= set(kept) else None


def _kept_at(annotator: Annotator, cache: Path | None) -> Path:
    folder = cache_folder() / "agreement" if cache is None else cache
    lists = fixture(LABELLED).read_text(encoding="utf-8")
    return folder / f"{digest([VERSION, dict(annotator.identity), list(annotator.seeds), lists])}.json"


def agreement_text(spec: str, word_vectors: str = "minilm") -> str:
    """The agreement of the annotator that the options name, as Markdown."""
    return markdown(cached_agreement(make_annotator(spec, word_vectors)))


def agreement_figure(found: Mapping[str, Json]) -> dict[str, Json]:
    """What `Agreement.plain` gives, as a figure of the report: kappa per category with its interval."""
    lists = int(found["lists"])
    return kappa_figure(
        (*(("user tasks", kappa, lists) for kappa in found["tasks"]), ("linguistic level", found["levels"], lists)),
        title="How far the annotator can be trusted",
        caption=f"Cohen's kappa of the annotator with {lists} lists labelled by hand: 1 is agreement, 0 what chance "
        f"gives. {' '.join(found['notes'])}".strip(),
    )


def markdown(found: Mapping[str, Json]) -> str:
    """`Agreement.plain` as Markdown: kappa per category, and the confusion table of the levels."""
    every = [*found["tasks"], found["levels"]]
    seeds = f", {found['seeds']} seeds" if found["seeds"] > 1 else ""
    lines = [
        f"{found['lists']} labelled lists ({found['half']} half{seeds}), {found['failed']} without a label.",
        "",
        "| category | labelled | assigned | both | kappa | 95 % interval |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
        *(_kappa_line(kappa) for kappa in every),
        "",
        "| labelled as | " + " | ".join(found["levels"]["columns"]) + " |",
        "| --- |" + " ---: |" * len(found["levels"]["columns"]),
        *(
            f"| {name} | " + " | ".join(map(str, row)) + " |"
            for name, row in zip(found["levels"]["rows"], found["levels"]["confusion"], strict=True)
        ),
    ]
    return "\n".join([*lines, *(line for note in found["notes"] for line in ("", note))]) + "\n"


def _kappa_line(kappa: Mapping[str, Json]) -> str:
    table = np.array(kappa["confusion"])
    if kappa["rows"] == ["yes", "no"]:
        counts = f"{table[0].sum()} | {table[:, 0].sum()} | {table[0, 0]}"
    else:
        counts = f"{table.sum()} | {table.sum()} | {np.trace(table)}"
    return f"| {kappa['name']} | {counts} | {' | '.join(kappa_text(kappa))} |"


def _task(category: str, chosen: Sequence[Labelled], given: Sequence[Sequence[Label | None]], seed: int) -> Kappa:
    truth = [_suits(item.label, category) for item in chosen]
    answers = [[_suits(label, category) for label in row] for row in given]
    return kappa_of(category, truth, answers, ("yes", "no"), seed=seed)


def _suits(label: Label | None, category: str) -> str:
    if label is None:
        return FAILED
    given = label.tasks or {"none"}
    return "yes" if (given.intersection(USER_TASKS) if category == ANY else category in given) else "no"


def task_errors(found: Mapping[str, Json], category: str) -> Youden:
    """How the annotator of an `Agreement.plain` tells lists that suit a category of `CATEGORIES` from others. Lists
    that it failed on are missing, as in the shares."""
    kappa = next(kappa for kappa in found["tasks"] if kappa["name"] == category)
    return _errors(kappa, "yes", found["seeds"])


def level_errors(found: Mapping[str, Json], level: str) -> Youden:
    """The same of lists on a linguistic level; those on another, and those that nothing holds together, are others."""
    return _errors(found["levels"], level, found["seeds"])


def _errors(kappa: Mapping[str, Json], name: str, seeds: int) -> Youden:
    """Counts are summed over seeds, lists are what is independent: a seed's mean counts as one set of lists."""
    table = np.array(kappa["confusion"], dtype=np.float64)[:, [c != FAILED for c in kappa["columns"]]] / seeds
    row, column = kappa["rows"].index(name), kappa["columns"].index(name)
    others = np.delete(table, row, axis=0)
    return Youden(hits=float(table[row, column]), positives=float(table[row].sum()),
                  false_alarms=float(others[:, column].sum()), negatives=float(others.sum()))  # fmt: skip


def _level(label: Label | None) -> str:
    return FAILED if label is None else label.level or "abstain"
