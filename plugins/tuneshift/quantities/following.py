"""Following: does a checkpoint do what its prompts ask?

Quantities of a view on generations (arXiv:2409.14254), scored by a judge; prompts are the items, clusters count
together. ``docs/following.md`` has the definitions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from ..claims.view import NotApplicable, Quantity, View, cut_while_thinking
from ..judges.base import FIRST, SECOND, TIED, Comparison, Judge, PointwiseJudge, Scores
from ..plain import Json
from ..prompts.prompt import Prompt
from ..statistics.bootstrap import effective_clusters
from ..statistics.differences import paired_difference
from ..statistics.intervals import NoIntervals, Wilson, fewest_clusters
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem

Floats = npt.NDArray[np.float64]
Source = tuple[str, str]
"""(role, need): whose responses, and which, as ("base", "generation.rules")."""
LeaveOut = Callable[[Prompt], bool]

CHANCE = 0.5
NGRAM = 4


def within(pattern: str) -> LeaveOut:
    """Whether a prompt is of a task: its field ``task``, or where it has none its id, matches the shell pattern."""
    return lambda prompt: fnmatchcase(str(prompt.fields.get("task", prompt.id)), pattern)


def following(
    first: Source, second: Source, *, judge: Judge, labels: tuple[str, str] | None = None,
    leave_out: LeaveOut | None = None,
) -> Quantity:  # fmt: skip
    """Paired difference of two sources' scores, second minus first, in -1..1: mean over prompts, clusters together.

    The scores are the judge's: whether a response follows (``verifier``), or wins, ties or loses against the other. A
    pairwise judge's is no share of prompts followed, because the same response scores by its opponent: the unit is then
    wins over the first less losses, and the arms are named so. A judge that can also score a response by itself has
    that in ``scores`` and the details' ``pointwise``. ``labels`` name the arms, ``leave_out`` says which prompts do not
    count. Details: ``judge``, its identity.

    A response that was cut while thinking has not followed (it loses to one that was not); the details' ``thinking``
    counts these, and each source's tokens.

    Raises NotApplicable for recorded evidence without responses and where the judge scores no prompt.
    """
    names = labels or (source_label(first), source_label(second))

    def quantity(view: View) -> Statistic:
        found = scored(view, (first, second), names, judge, leave_out)
        values = np.array(list(found.values()), dtype=np.float64)
        shown = tuple(f"{name} wins" for name in names) if judge.pairwise else names
        low, high = (
            Arm(label=name, ids=tuple(found), values=values[:, k], span=(0.0, 1.0)) for k, name in enumerate(shown)
        )
        statistic = paired_difference(
            low, high, clusters=clusters_of(view, low.ids), level=view.level,
            same_evidence=view.same_evidence(first, second),
        )  # fmt: skip
        more = {"judge": dict(judge.identity), **thinking_of(view, (first, second), names)}
        if not judge.pairwise:
            return replace(statistic, details={**statistic.details, **more})
        alone = pointwise_arms(view, (first, second), names, judge, low.ids)
        return replace(
            statistic,
            unit=f"wins over {names[0]} less losses, a share of prompts",
            scores=alone,
            details={**statistic.details, **more, **_pointwise_details(view, alone, judge)},
        )

    return quantity


def pointwise_arms(
    view: View, sources: tuple[Source, Source], labels: tuple[str, str], judge: Judge, ids: Sequence[str]
) -> tuple[Arm, ...]:
    """Each source's responses scored by themselves; none for a judge that cannot. A response that was cut while
    thinking has the lowest score there is."""
    if not isinstance(judge, PointwiseJudge):
        return ()
    prompts = {p.id: p for p in view.prompts}
    arms = []
    for source, label in zip(sources, labels, strict=True):
        found = responses(replace(view, excluded=Counter()), source, label)
        scores = judge.pointwise([(prompts[i], found[i].values["response"]) for i in ids])
        lowest = judge.pointwise_span[0]
        values = [lowest if s is None or cut_while_thinking(found[i]) else s for i, s in zip(ids, scores, strict=True)]
        arms.append(Arm(label=label, ids=tuple(ids), values=np.array(values), span=judge.pointwise_span))
    return tuple(arms)


def _pointwise_details(view: View, arms: tuple[Arm, ...], judge: Judge) -> dict[str, Json]:
    if not isinstance(judge, PointwiseJudge) or not arms:
        return {}
    low, high = arms
    moved = paired_difference(low, high, clusters=clusters_of(view, low.ids), level=view.level)
    return {"pointwise": {"unit": judge.pointwise_unit, low.label: low.mean, high.label: high.mean,
                          "difference": moved.effect, "interval": list(moved.interval)}}  # fmt: skip


def win_rate(
    first: Source, second: Source, *, judge: Judge, labels: tuple[str, str] | None = None,
    leave_out: LeaveOut | None = None,
) -> Quantity:  # fmt: skip
    """Share of prompts on which the second source beats the first, ties half, less 0.5; in -0.5..0.5.

    The interval is Wilson's (1927) score interval with n divided by the design effect of the clusters (Kish 1965; never
    below 1): with every prompt its own cluster the textbook's. ``p`` is the score test's. Interval and p are NaN under
    ``fewest_clusters`` effective clusters. Details: ``win_rate``, ``wins``, ``ties``, ``losses``, ``effective_n``,
    ``judge``. Raises NotApplicable as `following`.
    """
    names = labels or (source_label(first), source_label(second))

    def quantity(view: View) -> Statistic:
        found = scored(view, (first, second), names, judge, leave_out)
        won = Arm(label=names[1], ids=tuple(found), values=np.array([win(s) for s in found.values()]))
        statistic = share_of(won, clusters_of(view, won.ids), view.level)
        counts = Counter(won.values.tolist())
        more: dict[str, Json] = {"win_rate": won.mean, "wins": counts[1.0], "ties": counts[0.5], "losses": counts[0.0]}
        more |= {"judge": dict(judge.identity), **thinking_of(view, (first, second), names)}
        return replace(statistic, details={**statistic.details, **more})

    return quantity


def repetition(ids: npt.NDArray[np.int64]) -> float:
    """Share of a response's 4-grams of tokens that occurred in it before, in 0..1; 0 under four tokens. ids: [token]"""
    listed = ids.tolist()
    grams = [tuple(listed[i : i + NGRAM]) for i in range(len(listed) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def source_label(source: Source) -> str:
    """The role, and what was done to it: ``base + rules``."""
    role, need = source
    variant = need.partition(".")[2]
    return f"{role} + {variant}" if variant else role


def responses(view: View, source: Source, label: str) -> dict[str, EvidenceItem]:
    """A source's responses in prompt order; why others were left out is counted."""
    role, need = source
    found = view.items(role, need)
    if found is None:
        raise NotApplicable(f"the recorded evidence of the {role} checkpoint has no responses ({need})")
    items = [found[prompt.id] for prompt in view.prompts]
    view.excluded.update(f"{label}: {item.left_out}" for item in items if item.left_out)
    return {item.id: item for item in items if not item.left_out}


def scored(
    view: View, sources: tuple[Source, Source], labels: tuple[str, str], judge: Judge, leave_out: LeaveOut | None
) -> dict[str, Scores]:
    """The judge's scores of the prompts that both sources answered, in prompt order."""
    kept = outside(view, leave_out)
    first, second = (responses(kept, source, label) for source, label in zip(sources, labels, strict=True))
    items = [
        Comparison(prompt=p, **_side("first", first[p.id]), **_side("second", second[p.id]))
        for p in kept.prompts
        if p.id in first and p.id in second
    ]
    scores = judge.scores(items)
    found = {
        item.prompt.id: _answered(s, judge, cut_while_thinking(first[item.prompt.id]),
                                  cut_while_thinking(second[item.prompt.id]))
        for item, s in zip(items, scores, strict=True)
        if s is not None
    }  # fmt: skip
    view.excluded.update([judge.unjudged] * (len(items) - len(found)))
    if not found:
        why = f"all {len(items)} prompts are left out ({judge.unjudged})" if items else "no prompt has both responses"
        raise NotApplicable(f"nothing is judged of {labels[0]} and {labels[1]}: {why}")
    return found


def _answered(scores: Scores, judge: Judge, first_cut: bool, second_cut: bool) -> Scores:
    """Scores where responses that were cut while thinking have not followed, or lose to one that was not."""
    if not judge.pairwise:
        return (0.0 if first_cut else scores[0], 0.0 if second_cut else scores[1])
    if first_cut or second_cut:
        return TIED if first_cut and second_cut else SECOND if first_cut else FIRST
    return scores


def thinking_of(view: View, sources: tuple[Source, Source], labels: tuple[str, str]) -> dict[str, Json]:
    """Details of how much each source thought: tokens of ``thoughts`` and of ``answers`` over all its responses, and
    how many were ``cut`` while thinking; nothing where neither source thinks."""
    told: dict[str, Json] = {}
    for source, label in zip(sources, labels, strict=True):
        items = view.items(*source) or {}
        answered = [item for p in view.prompts if not (item := items[p.id]).left_out]
        thoughts = [item.values["thoughts"] for item in answered if "thoughts" in item.values]
        if thoughts:
            told[label] = {
                "thoughts": sum(t["tokens"] for t in thoughts),
                "answers": sum(len(item.arrays["response_ids"]) for item in answered),
                "cut": sum(map(cut_while_thinking, answered)),
            }
    return {"thinking": told} if told else {}


def outside(view: View, leave_out: LeaveOut | None) -> View:
    """The view without the prompts that do not count; what is left out is counted in the view given."""
    prompts = tuple(p for p in view.prompts if leave_out is None or not leave_out(p))
    view.excluded.update(["of the task that is left out"] * (len(view.prompts) - len(prompts)))
    return replace(view, prompts=prompts)


def _side(name: str, item: EvidenceItem) -> dict[str, Json]:
    return {name: item.values["response"], f"{name}_ended": item.values.get("ended")}


def clusters_of(view: View, ids: Sequence[str]) -> tuple[str, ...]:
    """The cluster of each id, as the view counts them; a prompt without one is its own."""
    clusters = view.clusters
    return tuple(clusters[i] for i in ids)


def win(scores: Scores) -> float:
    """1 where the second response scores higher, 0 where the first does, else 0.5."""
    return CHANCE + float(np.sign(scores[1] - scores[0])) / 2


def _units(clusters: Sequence[str]) -> float:
    return effective_clusters(np.unique(clusters, return_inverse=True)[1])


def share_of(won: Arm, clusters: Sequence[str], level: float) -> Statistic:
    """A mean of values in 0..1 less 0.5, with Wilson's interval at the clusters' effective n."""
    from scipy.special import ndtr

    half = Arm(label="chance", ids=won.ids, values=np.full(len(won.ids), CHANCE))
    together = paired_difference(half, won, clusters=clusters, level=level)
    alone = paired_difference(half, won, clusters=None, level=level)
    share = won.mean
    # Without variance there is no design effect to be seen: then clusters count as one prompt each.
    ratio = together.standard_error / alone.standard_error if alone.standard_error > 0 else math.nan
    known = len(np.unique(won.values)) > 1
    n = len(won.ids) / max(1.0, ratio**2) if known else _units(clusters)
    found = replace(
        together,
        interval=(math.nan, math.nan),
        intervals=NoIntervals(),
        p=math.nan,
        standard_error=math.nan,
        method="Wilson score interval, n divided by the clusters' design effect",
        arms=(half, won),
        details={"effective_n": n},
    )
    if not math.isfinite(n) or _units(clusters) < fewest_clusters(level):
        return found
    intervals = Wilson(share=share, n=n, chance=CHANCE, units=_units(clusters))
    return replace(
        found,
        intervals=intervals,
        interval=intervals.at(level),
        p=float(2 * ndtr(-abs(share - CHANCE) / math.sqrt(CHANCE**2 / n))),
        standard_error=math.sqrt(share * (1 - share) / n),
    )
