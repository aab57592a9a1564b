"""Shares counted by somebody who errs: corrected for sensitivity and specificity, with what is not known of these.

With a true share pi, sensitivity Se and specificity Sp, the share that is counted is pi Se + (1 - pi) (1 - Sp), so that
the true one is (counted + Sp - 1) / J with Youden's (1950) index J = Se + Sp - 1 (Rogan and Gladen 1978; of judges that
are language models arXiv:2511.21140, and 2601.05420 beside prediction-powered inference). A shift of shares that one
annotator counted on both sides is then the counted shift / J. J is itself an estimate from labelled items. The delta
method, as in these papers, adds nothing for it where the shift is 0, and there equivalence is claimed; so the interval
here is that of a ratio of two independent estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..plain import Json
from .differences import equivalence_p
from .intervals import UNKNOWN, Interval, Intervals, TwoOneSided, p_value, searched_p
from .proportions import melded_difference
from .statistic import Arm, Statistic


@dataclass(frozen=True, kw_only=True)
class Youden:
    """How an annotator tells a category's items from others, on labelled items: ``hits`` of ``positives`` got the
    category, and so did ``false_alarms`` of ``negatives``. Numbers may be means over an annotator's seeds."""

    hits: float
    positives: float
    false_alarms: float
    negatives: float

    @property
    def sensitivity(self) -> float:
        return self.hits / self.positives if self.positives else math.nan

    @property
    def specificity(self) -> float:
        return 1 - self.false_alarms / self.negatives if self.negatives else math.nan

    @property
    def index(self) -> float:
        """J = sensitivity + specificity - 1, in -1..1: 0 where the category is given blindly."""
        return self.sensitivity + self.specificity - 1

    def interval(self, level: float) -> Interval:
        """J's, as a difference of two independent shares, melded from exact bounds of each (`melded_difference`):
        Newcombe's from Wilson's intervals errs up to 4.5 times as often as stated with fewer than 20 positives
        (``benchmarks/corrected_shares.py``). NaN without positives or negatives."""
        if not (self.positives and self.negatives):
            return UNKNOWN
        return melded_difference((self.hits, self.positives), (self.false_alarms, self.negatives), level)

    def sees(self, level: float) -> bool:
        """Whether J is above 0 by its interval: else the annotator may be giving the category blindly."""
        return self.interval(level)[0] > 0

    def plain(self, level: float) -> dict[str, Json]:
        """JSON: both rates, the index and its interval at ``level``."""
        return {"sensitivity": self.sensitivity, "specificity": self.specificity, "index": self.index,
                "interval": list(self.interval(level)), "positives": self.positives,
                "negatives": self.negatives}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """Intervals of a shift ``counted`` / J, from those of the counted shift and of J, which are independent.

    Donner and Zou's (2012) for a ratio: by each bound of the ratio r, ``counted`` - r J has 0 as the bound of its own
    interval, whose squared half width is the sum of those of its parts (MOVER). With symmetric parts it is Fieller's. A
    shift of shares lies within -1..1, and that is all that is known where J's interval holds 0.
    """

    counted: float
    inner: Intervals
    youden: Youden

    def at(self, level: float) -> Interval:
        low, high = self.inner.at(level)
        if not (math.isfinite(low) and math.isfinite(high)):
            return UNKNOWN
        index, ends = self.youden.index, self.youden.interval(level)
        if not ends[0] > 0:
            return -1.0, 1.0
        bottom = _lower_ratio(self.counted, low, index, ends)
        top = -_lower_ratio(-self.counted, -high, index, ends)
        return min(max(bottom, -1.0), 1.0), max(min(top, 1.0), -1.0)

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value``. Of 0 it is the counted shift's: no shift is none, whatever J."""
        return p_value(self.inner, 0.0) if value == 0 else searched_p(self, value)

    def plain(self) -> dict[str, Json]:
        y = self.youden
        counts = {"hits": y.hits, "positives": y.positives, "false_alarms": y.false_alarms, "negatives": y.negatives}
        return {"kind": "corrected", "counted": self.counted, "inner": self.inner.plain(), "youden": counts}


def _lower_ratio(counted: float, low: float, index: float, ends: Interval) -> float:
    """The r at which the lower bound of ``counted`` - r J is 0; J > 0. Where r is not below 0 a larger J lowers the
    difference, else a smaller one."""
    if low == counted == 0:
        return 0.0
    down = counted - low
    aside = ends[1] - index if low >= 0 else index - ends[0]
    over = (counted - down) * (counted + down)
    squared = (index - aside) * (index + aside)
    middle = counted * index
    root = math.sqrt(max(0.0, middle**2 - squared * over))
    # Of the two forms of a quadratic's root, the one that takes no difference of near-equal numbers.
    return over / (middle + root) if low >= 0 and middle + root > 0 else (middle - root) / squared


def corrected_shift(statistic: Statistic, youden: Youden, *, level: float) -> Statistic:
    """A shift of a share, second arm minus first, corrected for an annotator's errors: the effect is counted / J.

    Arms hold the items' corrected shares, which may leave 0..1, and their span; the standard error is the delta
    method's. Two one-sided tests stay such, with their ``p_equivalence``. Details: ``counted`` (effect and interval as
    counted) and ``annotator_errors`` (`Youden.plain` at ``level``). Raises ValueError unless the annotator `sees` the
    category at ``level``.
    """
    if not youden.sees(level):
        raise ValueError(
            f"an annotator with J = {youden.index:.3g} may give the category blindly; nothing is corrected"
        )
    index, effect = youden.index, statistic.effect / youden.index
    two_sided = statistic.intervals.inner if isinstance(statistic.intervals, TwoOneSided) else statistic.intervals
    inner = Corrected(counted=statistic.effect, inner=two_sided, youden=youden)
    intervals: Intervals = TwoOneSided(inner=inner) if isinstance(statistic.intervals, TwoOneSided) else inner
    # `coverage` of the interval that stands in the statistic: at that of two one-sided tests, the inner's level.
    interval = inner.at(statistic.level)
    spread = math.hypot(statistic.standard_error, effect * _error(youden)) / index
    details: dict[str, Json] = {
        **statistic.details,
        "counted": {"effect": statistic.effect, "interval": list(statistic.interval)},
        "annotator_errors": youden.plain(level),
    }
    if "margin" in details:
        known = math.isfinite(interval[0])
        details["p_equivalence"] = equivalence_p(inner, effect, details["margin"]) if known else math.nan
    return replace(
        statistic,
        effect=min(max(effect, -1.0), 1.0),
        intervals=intervals,
        interval=interval,
        standard_error=spread,
        arms=tuple(_corrected_arm(arm, youden) for arm in statistic.arms),
        method=f"{statistic.method}, corrected for the annotator's sensitivity and specificity",
        details=details,
    )


def _error(youden: Youden) -> float:
    """J's standard error, with one hit and one miss more on each side, so that none seen is not certainty."""
    parts = ((youden.hits, youden.positives), (youden.false_alarms, youden.negatives))
    shares = [((x + 1) / (n + 2), n + 2) for x, n in parts]
    return math.sqrt(sum(share * (1 - share) / n for share, n in shares))


def _corrected_arm(arm: Arm, youden: Youden) -> Arm:
    alarm = 1 - youden.specificity
    span = None if arm.span is None else tuple((end - alarm) / youden.index for end in arm.span)
    return Arm(label=arm.label, ids=arm.ids, values=(arm.values - alarm) / youden.index,
               span=span if span is None else (span[0], span[1]))  # fmt: skip


def read_corrected(plain: Mapping[str, Json], inner: Intervals) -> Corrected:
    """The intervals of their plain form, ``inner`` already read."""
    counts = {name: float(plain["youden"][name]) for name in ("hits", "positives", "false_alarms", "negatives")}
    return Corrected(counted=float(plain["counted"]), inner=inner, youden=Youden(**counts))
