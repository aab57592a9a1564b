"""How far an annotator agrees with the hand-labelled lists: Cohen's kappa, confusion tables, bootstrap intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .annotators import LEVELS, TASKS, Annotator, Label, make_annotator
from .errors import UsageError
from .files import cache_folder, publish
from .records import Json, digest
from .resources import fixture
from .statistics import Estimate, bootstrap_statistic

LABELLED = "annotation/labelled.jsonl"
HELD_OUT = "held-out"
CATEGORIES = (*TASKS, "none")
LEVEL_NAMES = (*LEVELS, "abstain")
FAILED = "failed"
"""A list that the annotator gave no label: it counts as a disagreement in everything."""
LEVEL = 0.95
RESAMPLES = 1999
SEED = 0
VERSION = 1

Counts = npt.NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A word list with its label. ``half``: ``calibration`` (thresholds may look at it) or ``held-out``."""

    id: str
    words: tuple[str, ...]
    label: Label
    half: str


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Cohen's kappa (1960), in [-1, 1]: agreement beyond what the two's frequencies give by chance.

    ``interval`` is a bootstrap over lists (95 %), NaN where too many resamples lack a category or all agree entirely;
    ``confusion`` has the hand label in rows and the annotator's in columns, summed over seeds.
    """

    name: str
    kappa: float
    interval: Interval
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def plain(self) -> dict[str, Json]:
        """JSON; NaN as None."""
        return {
            "name": self.name,
            "kappa": _number(self.kappa),
            "interval": [_number(bound) for bound in self.interval],
            "rows": list(self.rows),
            "columns": list(self.columns),
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An annotator against the labelled lists: kappa per task (and ``none``) and for the levels.

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
            row = json.loads(line)
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
    folder = cache_folder() / "agreement" if cache is None else cache
    lists = fixture(LABELLED).read_text(encoding="utf-8")
    path = folder / f"{digest([VERSION, dict(annotator.identity), list(annotator.seeds), lists])}.json"
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, dict) and {"tasks", "levels", "lists"} <= set(kept):
        return kept
    found = agreement(annotator).plain()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        publish(path, json.dumps(found, indent=1).encode())
    except OSError:
        pass  # a cache only saves time
    return found


def agreement_text(spec: str, word_vectors: str = "minilm") -> str:
    """The agreement of the annotator that the options name, as Markdown."""
    return markdown(cached_agreement(make_annotator(spec, word_vectors)))


def agreement_figure(found: Mapping[str, Json]) -> dict[str, Json]:
    """What `Agreement.plain` gives, as a figure of the report: kappa per category with its interval."""
    rows = [
        {
            "label": kappa["name"],
            "group": "linguistic level" if kappa["name"] == "level" else "user tasks",
            "points": [
                {
                    "label": "kappa",
                    "value": kappa["kappa"],
                    "low": kappa["interval"][0],
                    "high": kappa["interval"][1],
                    "n": found["lists"],
                }
            ],
        }
        for kappa in (*found["tasks"], found["levels"])
    ]
    return {
        "kind": "dots",
        "title": "How far the annotator can be trusted",
        "caption": f"Cohen's kappa of the annotator with {found['lists']} lists labelled by hand: 1 is agreement, 0 "
        f"what chance gives. {' '.join(found['notes'])}".strip(),
        "unit": "kappa",
        "reference": 0.0,
        "rows": rows,
    }


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
    low, high = kappa["interval"]
    interval = "not defined" if low is None else f"{low:.2f} to {high:.2f}"
    value = "not defined" if kappa["kappa"] is None else f"{kappa['kappa']:.2f}"
    table = np.array(kappa["confusion"])
    if kappa["rows"] == ["yes", "no"]:
        counts = f"{table[0].sum()} | {table[:, 0].sum()} | {table[0, 0]}"
    else:
        counts = f"{table.sum()} | {table.sum()} | {np.trace(table)}"
    return f"| {kappa['name']} | {counts} | {value} | {interval} |"


def kappa_of(
    name: str, truth: Sequence[str], answers: Sequence[Sequence[str]], names: Sequence[str], *, seed: int = SEED
) -> Kappa:
    """Cohen's kappa of ``answers`` [seed, list] with ``truth`` [list], over ``names`` and `FAILED`.

    Raises ValueError for a name that is neither. Where one name is all that both ever use, kappa is NaN: 0 / 0.
    """
    columns = (*names, FAILED)
    codes = {n: i for i, n in enumerate(columns)}
    unknown = ({n for row in answers for n in row} | set(truth)) - set(columns)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]!r} is none of {', '.join(columns)}")
    rows = np.array([codes[n] for n in truth])
    given = np.array([[codes[n] for n in row] for row in answers])  # [seed, list]
    confusion = np.zeros((len(columns), len(columns)), dtype=np.int64)
    for row in given:
        np.add.at(confusion, (rows, row), 1)
    found = bootstrap_statistic(
        _mean_kappa(rows, given, len(columns)),
        arms=(),
        clusters=[str(i) for i in range(len(rows))],
        level=LEVEL,
        seed=seed,
        resamples=RESAMPLES,
    )
    return Kappa(
        name=name,
        kappa=found.effect,
        interval=found.interval,
        rows=tuple(names),
        columns=columns,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion[: len(names)]),
    )


def _mean_kappa(truth: Counts, given: Counts, size: int) -> Estimate:
    """Weights [resample, list] -> mean kappa over seeds, [resample]."""
    of_truth = np.eye(size)[truth]  # [list, name]

    def estimate(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total = weights.sum(axis=1)
        expected_rows = weights @ of_truth / total[:, None]
        kappas = []
        for row in given:
            observed = weights @ (row == truth) / total
            chance = np.sum(expected_rows * (weights @ np.eye(size)[row] / total[:, None]), axis=1)
            beyond = 1 - chance
            # Where both use one name only, chance agreement is 1 but for rounding.
            defined = beyond > 1e-12
            kappas.append(np.where(defined, (observed - chance) / np.where(defined, beyond, 1.0), np.nan))
        return np.asarray(np.mean(kappas, axis=0), dtype=np.float64)

    return estimate


def _task(category: str, chosen: Sequence[Labelled], given: Sequence[Sequence[Label | None]], seed: int) -> Kappa:
    truth = [_suits(item.label, category) for item in chosen]
    answers = [[_suits(label, category) for label in row] for row in given]
    return kappa_of(category, truth, answers, ("yes", "no"), seed=seed)


def _suits(label: Label | None, category: str) -> str:
    if label is None:
        return FAILED
    return "yes" if category in (label.tasks or {"none"}) else "no"


def _level(label: Label | None) -> str:
    return FAILED if label is None else label.level or "abstain"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
