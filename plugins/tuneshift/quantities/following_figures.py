"""What the report shows of responses: who follows, how long they are, when they end, and some of them side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..claims.view import Figure, NotApplicable, View
from ..judges.base import Judge, Scores
from ..plain import Json
from ..statistics.differences import paired_difference
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem
from .following import CHANCE, LeaveOut, Source, clusters_of, repetition, responses, scored, share_of, win

Floats = npt.NDArray[np.float64]
Models = Mapping[str, Source]
"""What a figure compares, in its order, by the names that it shows."""

PERCENTS = tuple(range(0, 101, 5))
SHOWN = 12
"""Prompts shown side by side: a third each of gains, losses and drawn at random."""
TEXT_LIMIT = 300
"""Characters shown of a prompt or response."""


def following_figure(models: Models, *, judge: Judge, against: str | None = None,
                     leave_out: LeaveOut | None = None) -> Figure:  # fmt: skip
    """Share of prompts that each model follows, with Wilson's intervals; for a pairwise judge, its wins ``against`` one
    of them (None: the last), which is left out. Models that the pair does not have are not shown."""
    opponent = models[against] if against is not None else list(models.values())[-1]

    def figure(view: View) -> dict[str, Json] | None:
        rows: list[Json] = []
        for label, source in models.items():
            if judge.pairwise and source == opponent:
                continue
            other = opponent if judge.pairwise else source
            found = _try_scored(view, (other, source), judge, leave_out)
            if found:
                won = [win(s) if judge.pairwise else s[1] for s in found.values()]
                arm = Arm(label="share", ids=tuple(found), values=np.array(won))
                statistic = share_of(arm, clusters_of(view, arm.ids), view.level)
                rows.append({"label": label, "group": "", "points": [_point(statistic)]})
        name = next(label for label, source in models.items() if source == opponent)
        what = f"wins against {name}, ties half" if judge.pairwise else "prompts followed"
        return None if not rows else {
            "kind": "dots",
            "title": f"Wins against {name}" if judge.pairwise else "Prompts followed",
            "caption": f"Share of {what}, by the judge `{judge.identity['judge']}`, with Wilson intervals in which "
            "clustered prompts count together.",
            "unit": "share of prompts",
            "reference": CHANCE if judge.pairwise else None,
            "rows": rows,
        }  # fmt: skip

    return figure


def _try_scored(
    view: View, sources: tuple[Source, Source], judge: Judge, leave_out: LeaveOut | None
) -> dict[str, Scores] | None:
    """Scores for a figure, which counts nothing as left out; None where there are none."""
    try:
        return scored(_apart(view), sources, ("", ""), judge, leave_out)
    except NotApplicable:
        return None


def _apart(view: View) -> View:
    return replace(view, excluded=Counter())


def _point(statistic: Statistic) -> dict[str, Json]:
    low, high = (CHANCE + x if math.isfinite(x) else None for x in statistic.interval)
    return {"label": "share", "value": CHANCE + statistic.effect, "low": low, "high": high, "n": statistic.n}


def _answered(view: View, models: Models) -> dict[str, dict[str, EvidenceItem]]:
    """Responses of the models that the pair has, by the models' names."""
    found = {}
    for label, source in models.items():
        try:
            found[label] = responses(_apart(view), source, label)
        except NotApplicable:
            continue
    return {label: items for label, items in found.items() if items}


def length_figure(models: Models) -> Figure:
    """Lengths of responses in tokens: percentiles over prompts, a line per model."""

    def figure(view: View) -> dict[str, Json] | None:
        found = _answered(view, models)
        return None if not found else {
            "kind": "curves",
            "title": "Length of responses",
            "caption": "Prompts ordered from the shortest response to the longest. A flat end at the top is responses "
            "cut at the limit.",
            "x_name": "prompts, %",
            "unit": "tokens",
            "x": list(PERCENTS),
            "series": [_line(name, np.percentile(_lengths(items), PERCENTS)) for name, items in found.items()],
        }  # fmt: skip

    return figure


def ended_figure(models: Models) -> Figure:
    """Share of responses that the model itself had ended by each length in tokens, a line per model."""

    def figure(view: View) -> dict[str, Json] | None:
        found = {name: items for name, items in _answered(view, models).items()
                 if all(item.values.get("ended") is not None for item in items.values())}  # fmt: skip
        if not found:
            return None
        longest = int(max(_lengths(items).max() for items in found.values()))
        x = np.unique(np.linspace(0, longest, min(longest, 50) + 1).astype(np.int64))
        series = []
        for name, items in found.items():
            ended = np.array([bool(item.values["ended"]) for item in items.values()])
            lengths = _lengths(items)
            series.append(_line(name, np.mean((lengths[None, :] <= x[:, None]) & ended, axis=1)))
        return {
            "kind": "curves",
            "title": "End of responses",
            "caption": "Share of responses that the model has ended by itself after so many tokens. What a line lacks "
            "to 1 at its right end was cut at the limit.",
            "x_name": "tokens",
            "unit": "share of prompts",
            "x": x.tolist(),
            "series": series,
        }

    return figure


def repetition_figure(models: Models) -> Figure:
    """How much responses repeat themselves: mean share of 4-grams seen before in the same response, per model."""

    def figure(view: View) -> dict[str, Json] | None:
        rows: list[Json] = []
        for label, items in _answered(view, models).items():
            shares = np.array([repetition(item.arrays["response_ids"]) for item in items.values()])
            seen = Arm(label=label, ids=tuple(items), values=shares, span=(0.0, 1.0))
            none = Arm(label="none", ids=seen.ids, values=np.zeros_like(shares), span=(0.0, 0.0))
            mean = paired_difference(none, seen, clusters=clusters_of(view, seen.ids), level=view.level)
            low, high = (x if math.isfinite(x) else None for x in mean.interval)
            point = {"label": "share", "value": mean.effect, "low": low, "high": high, "n": mean.n}
            rows.append({"label": label, "group": "", "points": [point]})
        return None if not rows else {
            "kind": "dots",
            "title": "Repetition",
            "caption": "Share of a response's 4-grams of tokens that occurred in it before; mean and interval over "
            "prompts.",
            "unit": "share of 4-grams",
            "reference": None,
            "rows": rows,
        }  # fmt: skip

    return figure


def _lengths(items: Mapping[str, EvidenceItem]) -> Floats:
    return np.array([len(item.arrays["response_ids"]) for item in items.values()], dtype=np.float64)


def _line(label: str, values: Floats) -> dict[str, Json]:
    return {"label": label, "values": values.tolist(), "low": None, "high": None}


def responses_figure(models: Models, *, judge: Judge, first: str, second: str,
                     leave_out: LeaveOut | None = None) -> Figure:  # fmt: skip
    """Responses of all models side by side, for a dozen prompts chosen by how ``second`` scores over ``first``.

    Four of the largest gains, four of the largest losses, the rest at random; among equals the view's seed decides.
    """

    def figure(view: View) -> dict[str, Json] | None:
        scores = _try_scored(view, (models[first], models[second]), judge, leave_out)
        if not scores:
            return None
        found = _answered(view, models)
        prompts = {p.id: p.prompt for p in view.prompts}
        rows: list[Json] = [
            [why, _cut(prompts[i]), *(_shown(items.get(i)) for items in found.values())]
            for i, why in _chosen(scores, view.seed)
        ]
        return {
            "kind": "words",
            "title": "Responses side by side",
            "caption": f"{len(rows)} of {len(scores)} prompts, chosen by rule: a third where {second} gains most over "
            f"{first} by the judge `{judge.identity['judge']}`, a third where it loses most, the rest at random. "
            f"Texts end after {TEXT_LIMIT} characters.",
            "columns": ["why", "prompt", *found],
            "rows": rows,
        }

    return figure


def _chosen(scores: Mapping[str, Scores], seed: int) -> list[tuple[str, str]]:
    """(id, why) of the prompts shown: gains and losses from the largest, then others in a drawn order."""
    ids = list(scores)
    drawn = [ids[k] for k in np.random.default_rng(seed).permutation(len(ids))]
    gain = {i: scores[i][1] - scores[i][0] for i in ids}
    third = SHOWN // 3
    gains = [i for i in sorted(drawn, key=lambda i: -gain[i]) if gain[i] > 0][:third]
    losses = [i for i in sorted(drawn, key=lambda i: gain[i]) if gain[i] < 0][:third]
    rest = [i for i in drawn if i not in {*gains, *losses}][: SHOWN - len(gains) - len(losses)]
    named = (("gain", gains), ("loss", losses), ("drawn at random", rest))
    return [(i, why) for why, group in named for i in group]


def _shown(item: EvidenceItem | None) -> str:
    return "(none)" if item is None else _cut(item.values["response"]) or "(empty)"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"


def win_matrix_figure(models: Models, *, judge: Judge, leave_out: LeaveOut | None = None) -> Figure:
    """Win rate of the row's model over the column's, ties half, less 0.5; None where nothing is judged."""

    def figure(view: View) -> dict[str, Json] | None:
        names = list(_answered(view, models))
        size = len(names)
        values: list[list[float | None]] = [[None] * size for _ in names]
        notes = [[""] * size for _ in names]
        for row, column in combinations(range(size), 2):
            scores = _try_scored(view, (models[names[column]], models[names[row]]), judge, leave_out)
            if scores:
                won = [win(s) for s in scores.values()]
                rate, counts = float(np.mean(won)) - CHANCE, Counter(won)
                values[row][column], values[column][row] = rate, -rate
                for at, better, worse in (((row, column), 1.0, 0.0), ((column, row), 0.0, 1.0)):
                    notes[at[0]][at[1]] = f"{counts[better]} won, {counts[0.5]} tied, {counts[worse]} lost"
        if all(value is None for line in values for value in line):
            return None
        return {
            "kind": "grid",
            "title": "Who follows better than whom",
            "caption": f"Share of prompts that the row's model wins against the column's by the judge "
            f"`{judge.identity['judge']}`, ties half, less 0.5.",
            "rows": names, "columns": names, "row_name": "model", "column_name": "opponent",
            "unit": "win rate less 0.5",
            "values": values,
            "notes": notes,
        }  # fmt: skip

    return figure
