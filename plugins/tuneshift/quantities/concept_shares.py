"""How tuning changed what a pair's feed-forward concepts are about: user tasks and linguistic levels.

Quantities of a view (arXiv:2310.00492) from the annotation of the concepts; layers are the items.
``docs/ffn-rotation.md`` has the formulas and what the paper does otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..annotators.agreement import agreement_figure, level_errors, task_errors
from ..annotators.base import LEVELS, USER_TASKS
from ..annotators.base import TASKS as USER_ASKED
from ..claims.view import NotApplicable, Quantity, View
from ..measures.subspaces import Floats
from ..plain import Json
from ..statistics.differences import equivalence, equivalence_p, paired_difference
from ..statistics.intervals import AllWithin, TwoOneSided
from ..statistics.kappa import LEVEL as KAPPA_LEVEL
from ..statistics.misclassification import Youden, corrected_shift
from ..statistics.statistic import Arm, Statistic
from ..statistics.tail_error import SkewedT, estimate_skewness
from ..store.evidence import EvidenceItem
from .concept_rotation import layer_arm, paired_layers

TASKS = (*USER_ASKED, "none")
"""Columns of the annotation's ``tasks``."""
LEVEL_MARGIN = 0.02
"""Two points of a share: a change of the mix of levels below this is none."""
FEWEST_KAPPA = 0.6
"""Below this an annotator's "the same" is no evidence of sameness: Landis and Koch's (1977) bound of substantial
agreement."""
Agreed = Mapping[str, Json]
"""`Agreement.plain`: the annotator against lists labelled by hand."""
Mask = npt.NDArray[np.bool_]
Share = Callable[[EvidenceItem], Floats]
"""Annotation of a layer -> a share of its concepts per annotator seed, [seed]; NaN where it is not defined."""


def category_shift(category: str, *, agreement: Agreed | None = None) -> Quantity:
    """Change of the share of a layer's concepts that suit a user task, tuned minus base, in -1..1, paired by layer.

    ``category``: one of ``TASKS``, or ``any`` for writing, coding or math. A layer's share is its mean over annotator
    seeds; with several seeds the interval is widened by them (`with_annotator_seeds`). With the annotator's
    ``agreement`` (`Claim.agreement`) the shift is corrected for its errors (`corrected_shift`); without, its word is
    taken. Raises ValueError for an unknown category; NotApplicable as `rotates_knowledge`, and where the annotator may
    be blind to the category.
    """
    share = task_share(category)

    def quantity(view: View) -> Statistic:
        base, tuned, by_seed = paired_shares(view, share, view.excluded, undefined="layer without annotated concepts")
        found = paired_difference(base, tuned, clusters=base.ids, level=view.level, same_evidence=_same(view))
        found = with_annotator_seeds(found, by_seed)
        if agreement is None:
            return found
        return _corrected(found, task_errors(agreement, category), category, agreement)

    return quantity


def levels_shift(*, margin: float = LEVEL_MARGIN, agreement: Agreed | None = None) -> Quantity:
    """Change of the mix of linguistic levels, tuned minus base: that of the level which decides (`AllWithin`).

    Shares are of all concepts, of which some are on no level: of those that got a level a share would hide what the
    annotator misses. With its ``agreement`` each level's shift is corrected as in `category_shift`; NotApplicable where
    kappa is under ``FEWEST_KAPPA``, or a level is one that it may be blind to.

    Each level has its two one-sided tests at ``margin``; the claim that none changes holds where all do, so the worst
    decides and no correction is due (intersection-union). It is contradicted where any level's interval, at its share
    of the error rate, lies outside the margin. Details: ``decided_by``, ``levels`` (all four) and the largest
    ``p_equivalence``.
    """

    def quantity(view: View) -> Statistic:
        if agreement is not None:
            _require_agreement(agreement)
        found: dict[str, Statistic] = {}
        for level in LEVELS:
            counter: Counter[str] = Counter()
            base, tuned, by_seed = paired_shares(
                view, level_share(level), counter, undefined="layer without annotated concepts"
            )
            tested = equivalence(
                base, tuned, clusters=base.ids, level=view.level, margin=margin, same_evidence=_same(view)
            )
            found[level] = with_annotator_seeds(tested, by_seed)
            if agreement is not None:
                found[level] = _corrected(found[level], level_errors(agreement, level), level, agreement)
        view.excluded.update(counter)  # the same layers for all four
        together = AllWithin(of=tuple(f.intervals for f in found.values()), margin=margin)
        decided_by = LEVELS[together.deciding(view.deciding_level)[0]]
        worst = max(
            (f.details["p_equivalence"] for f in found.values()), key=lambda p: math.inf if math.isnan(p) else p
        )
        details = {"decided_by": decided_by, "levels": {level: _brief(f) for level, f in found.items()}}
        return replace(
            found[decided_by],
            intervals=together,
            interval=together.at(view.level),
            level=together.coverage(view.level),
            details={**found[decided_by].details, **details, "p_equivalence": worst},
        )

    return quantity


def with_annotator_seeds(statistic: Statistic, by_seed: Floats) -> Statistic:
    """The statistic with its standard error widened by annotator seeds as a random effect.

    ``by_seed`` [seed] is the effect under each seed. Added to the squared error is the variance of the seeds' mean,
    s^2 / S; degrees of freedom are Satterthwaite's (1946). Layer-by-seed noise is in both terms, so the interval is a
    little too wide, never too narrow. One seed, or seeds that agree, change nothing.
    """
    seeds = len(by_seed)
    between = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
    if not between > 0 or not statistic.standard_error > 0:
        return statistic
    within = statistic.standard_error**2
    freedom = (within + between) ** 2 / (within**2 / (statistic.clusters - 1) + between**2 / (seeds - 1))
    error, effect = math.sqrt(within + between), statistic.effect
    # The third moment is the layers' alone: the seeds' few effects say nothing of theirs.
    skewness = estimate_skewness(_moves(statistic), statistic.clusters) * (within / error**2) ** 1.5
    alone = SkewedT(effect=effect, error=error, freedom=freedom, units=statistic.clusters, skewness=skewness)
    details = {**statistic.details, "annotator_seeds": seeds, "sd_between_seeds": math.sqrt(between * seeds)}
    interval = alone.at(statistic.level)
    known = math.isfinite(interval[0])
    if "margin" in details:
        details["p_equivalence"] = equivalence_p(alone, effect, details["margin"]) if known else math.nan
    return replace(
        statistic,
        standard_error=error,
        intervals=TwoOneSided(inner=alone) if "margin" in details else alone,
        interval=interval,
        p=alone.p() if known else math.nan,
        method=f"{statistic.method}, {seeds} annotator seeds as a random effect",
        details=details,
    )


def _corrected(statistic: Statistic, errors: Youden, category: str, agreement: Agreed) -> Statistic:
    """Corrected for the annotator's errors. Raises NotApplicable where it may be blind to the category."""
    if not errors.sees(KAPPA_LEVEL):
        low, high = errors.interval(KAPPA_LEVEL)
        raise NotApplicable(
            f"the annotator cannot see this category: for {category}, sensitivity + specificity - 1 is "
            f"{errors.index:.2g} [{low:.2g}, {high:.2g}] on lists labelled by hand, which holds 0",
            figures=[agreement_figure(agreement)],
        )
    return corrected_shift(statistic, errors, level=KAPPA_LEVEL)


def _require_agreement(agreement: Agreed) -> None:
    """Raise NotApplicable where the annotator agrees too little for its "no change" to be one."""
    kappa = agreement["levels"]["kappa"]
    if kappa is None or kappa < FEWEST_KAPPA:
        told = "has no kappa" if kappa is None else f"agrees by kappa {kappa:.2f} with lists labelled by hand"
        raise NotApplicable(
            f"equivalence is not claimed by an annotator that {told}: below {FEWEST_KAPPA}, shares that stay the same "
            "may be ones that it does not see",
            figures=[agreement_figure(agreement)],
        )


def _moves(statistic: Statistic) -> Floats:
    """The layers' differences about their mean, [layer]."""
    base, tuned = statistic.arms
    return np.asarray(tuned.values - base.values - statistic.effect)


def _same(view: View) -> bool:
    return view.same_evidence(("base", "annotation"), ("tuned", "annotation"))


def task_share(category: str) -> Share:
    """Share of concepts that the annotator finds to suit a task, or ``any`` of writing, coding and math."""
    known = (*TASKS, "any")
    if category not in known:
        raise ValueError(f"a category of user tasks is one of {', '.join(known)}; got {category!r}")
    columns = [TASKS.index(name) for name in (USER_TASKS if category == "any" else (category,))]

    def share(item: EvidenceItem) -> Floats:
        tasks = np.asarray(item.arrays["tasks"], dtype=np.bool_)  # [seed, concept, task]
        # A concept that an annotator failed on has none of them marked, not even "none": it counts as missing.
        return _share(tasks[:, :, columns].sum(axis=2) > 0, tasks.sum(axis=2) > 0)

    return share


def level_share(level: str) -> Share:
    """Share of concepts that the annotator finds on a linguistic level; of those it failed on nothing is known."""

    def share(item: EvidenceItem) -> Floats:
        answered = np.asarray(item.arrays["tasks"], dtype=np.bool_).sum(axis=2) > 0  # [seed, concept]
        return _share(item.arrays["levels"] == LEVELS.index(level), answered)

    return share


def paired_shares(view: View, share: Share, excluded: Counter[str], *, undefined: str) -> tuple[Arm, Arm, Floats]:
    """Base and tuned arm of a share by layer, means over annotator seeds, and the effect under each seed, [seed]."""
    pairs = paired_layers(view, "annotation", excluded)
    if len({item.arrays["tasks"].shape[0] for _, *both in pairs for item in both}) > 1:
        raise NotApplicable("base and tuned were annotated with different numbers of seeds")
    rows = [(i, share(low), share(high)) for i, low, high in pairs]
    kept = [(i, low, high) for i, low, high in rows if np.isfinite(low).all() and np.isfinite(high).all()]
    if len(kept) < len(rows):
        excluded[undefined] += len(rows) - len(kept)
    ids = tuple(i for i, _, _ in kept)
    base = layer_arm("base", ids, [float(low.mean()) for _, low, _ in kept], span=(0.0, 1.0))
    tuned = layer_arm("tuned", ids, [float(high.mean()) for _, _, high in kept], span=(0.0, 1.0))
    by_seed = np.mean([high - low for _, low, high in kept], axis=0) if kept else np.zeros(0)
    return base, tuned, np.asarray(by_seed, dtype=np.float64)


def _share(marked: Mask, among: Mask) -> Floats:
    """Share of ``marked`` among the concepts of ``among``, both [seed, concept]: [seed], NaN where there are none."""
    hits, count = (marked & among).sum(axis=1, dtype=np.float64), among.sum(axis=1, dtype=np.float64)
    share: Floats = np.divide(hits, count, out=np.full(len(count), np.nan), where=count > 0)
    return share


def _brief(statistic: Statistic) -> dict[str, Json]:
    return {
        "effect": statistic.effect,
        "interval": list(statistic.interval),
        "base": statistic.arms[0].mean,
        "tuned": statistic.arms[1].mean,
        "p_equivalence": statistic.details["p_equivalence"],
    }
