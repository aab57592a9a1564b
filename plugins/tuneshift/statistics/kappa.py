"""Agreement of two labellings beyond chance: Cohen's kappa with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..plain import Json
from .bootstrap import Estimate, bootstrap_statistic
from .intervals import fewest_clusters

FAILED = "failed"
"""A list that the annotator gave no label: it counts as a disagreement in everything."""
LEVEL = 0.95
RESAMPLES = 1999
SEED = 0

Counts = npt.NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Cohen's kappa (1960), in [-1, 1]: agreement beyond what the two's frequencies give by chance.

    ``interval`` is a bootstrap over lists (95 %), NaN where too many resamples lack a category or all agree entirely, 0
    to 0 where the annotator gives every list the same name; ``confusion`` has the hand label in rows and the
    annotator's in columns, summed over seeds.
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


def kappa_text(kappa: Mapping[str, Json]) -> tuple[str, str]:
    """Value and interval of `Kappa.plain` as a table has them."""
    low, high = kappa["interval"]
    value = "not defined" if kappa["kappa"] is None else f"{kappa['kappa']:.2f}"
    return value, "not defined" if low is None else f"{low:.2f} to {high:.2f}"


def kappa_figure(rows: Iterable[tuple[str, Mapping[str, Json], int]], *, title: str, caption: str) -> dict[str, Json]:
    """A figure of the report: each `Kappa.plain`, with its group and the number behind it, as a point with its
    interval."""
    points = [
        {
            "label": kappa["name"],
            "group": group,
            "points": [{"label": "kappa", "value": kappa["kappa"], "low": kappa["interval"][0],
                        "high": kappa["interval"][1], "n": n}],
        }
        for group, kappa, n in rows
    ]  # fmt: skip
    return {"kind": "dots", "title": title, "caption": caption, "unit": "kappa", "reference": 0.0, "rows": points}


def kappa_of(
    name: str, truth: Sequence[str], answers: Sequence[Sequence[str]], names: Sequence[str], *,
    clusters: Sequence[str] | None = None, seed: int = SEED,
) -> Kappa:  # fmt: skip
    """Cohen's kappa of ``answers`` [seed, list] with ``truth`` [list], over ``names`` and `FAILED`. Resamples take
    lists of one of the ``clusters`` together (a label per list; None: each its own).

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
        clusters=[str(i) for i in range(len(rows))] if clusters is None else clusters,
        level=LEVEL,
        seed=seed,
        resamples=RESAMPLES,
    )
    return Kappa(
        name=name,
        kappa=found.effect,
        interval=(0.0, 0.0) if _is_chance(rows, given) else found.interval,
        rows=tuple(names),
        columns=columns,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion[: len(names)]),
    )


def _is_chance(truth: Counts, given: Counts) -> bool:
    """Whether each seed gives every list one name: kappa is 0 in every resample that has one, and a bootstrap of equal
    values has no interval. False where it would have none anyway: too few lists, or too often no other name among them.
    """
    lists = len(truth)
    return lists >= fewest_clusters(LEVEL) and all(
        np.all(row == row[0]) and np.mean(truth == row[0]) ** lists < 0.01 for row in given
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


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
