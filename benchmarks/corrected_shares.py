"""How often intervals of Youden's J, and of shifts corrected by it, err where few items are labelled.

    python benchmarks/corrected_shares.py

Errors of each tail over the nominal tail, enumerated over all hits and false alarms, without Monte-Carlo error: the
largest over annotators of sensitivity 0.3 to 0.98 and specificity 0.8 to 0.995 with 140 negatives. "J": interval of the
index, Newcombe's from Wilson's intervals, the same from Clopper and Pearson's, and melded, which is used. "Corrected":
a true shift of 0.15 whose counted shift is normal with a standard error of 0.01, or 0.04, times J; by the interval that
is used, of those annotators that are seen not to be blind. Two minutes of one core.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from tuneshift.statistics.intervals import StudentT
from tuneshift.statistics.misclassification import Corrected, Youden
from tuneshift.statistics.proportions import melded_difference, wilson_interval

NEGATIVES, SHIFT = 140, 0.15
LEVELS = {"95 %": 0.95, "alpha / 3": 1 - 0.05 / 3}
ANNOTATORS = list(itertools.product((0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98), (0.8, 0.9, 0.95, 0.98, 0.995)))

Interval = tuple[float, float]
Method = Callable[[Youden, float], Interval]


def newcombe(youden: Youden, low_hit: Interval, low_alarm: Interval) -> Interval:
    hit, alarm = youden.sensitivity, 1 - youden.specificity
    return (youden.index - math.hypot(hit - low_hit[0], low_alarm[1] - alarm),
            youden.index + math.hypot(low_hit[1] - hit, alarm - low_alarm[0]))  # fmt: skip


def wilson(youden: Youden, level: float) -> Interval:
    alarm = youden.false_alarms / youden.negatives
    return newcombe(youden, wilson_interval(youden.sensitivity, youden.positives, level),
                    wilson_interval(alarm, youden.negatives, level))  # fmt: skip


def exact(youden: Youden, level: float) -> Interval:
    tail = (1 - level) / 2
    ends = []
    for x, n in ((youden.hits, youden.positives), (youden.false_alarms, youden.negatives)):
        low = 0.0 if x == 0 else float(stats.beta.ppf(tail, x, n - x + 1))
        ends.append((low, 1.0 if x == n else float(stats.beta.ppf(1 - tail, x + 1, n - x))))
    return newcombe(youden, *ends)


def melded(youden: Youden, level: float) -> Interval:
    return melded_difference((youden.hits, youden.positives), (youden.false_alarms, youden.negatives), level)


METHODS: dict[str, Method] = {"Wilson": wilson, "Clopper-Pearson": exact, "melded": melded}


def cases(positives: int, sensitivity: float, specificity: float) -> list[tuple[float, Youden]]:
    """Every outcome of the labelling with its probability, but for a millionth."""
    hits, alarms = stats.binom(positives, sensitivity), stats.binom(NEGATIVES, 1 - specificity)
    few, many = int(alarms.ppf(5e-7)), int(alarms.ppf(1 - 5e-7))
    return [
        (float(hits.pmf(h) * alarms.pmf(a)), Youden(hits=h, positives=positives, false_alarms=a, negatives=NEGATIVES))
        for h in range(positives + 1) for a in range(few, many + 1)
    ]  # fmt: skip


def tails_of_index(method: Method, positives: int, level: float) -> float:
    """The largest error of a tail over the nominal one."""
    worst = 0.0
    known: dict[Youden, Interval] = {}
    for sensitivity, specificity in ANNOTATORS:
        true, below, above = sensitivity + specificity - 1, 0.0, 0.0
        for chance, youden in cases(positives, sensitivity, specificity):
            if youden not in known:
                known[youden] = method(youden, level)
            low, high = known[youden]
            below += chance * (high < true - 1e-12)
            above += chance * (low > true + 1e-12)
        worst = max(worst, below, above)
    return worst / ((1 - level) / 2)


def tails_of_shift(positives: int, error: float, level: float) -> float:
    """The same of a corrected shift. An end at a counted shift c is past the true one from some c on: the chance of
    these is normal."""
    worst = 0.0
    for sensitivity, specificity in ANNOTATORS:
        index = sensitivity + specificity - 1
        counted, spread, lost = SHIFT * index, error * index, [0.0, 0.0]
        grid = counted + spread * np.linspace(-6, 6, 49)
        middles = np.r_[-np.inf, (grid[1:] + grid[:-1]) / 2, np.inf]
        chances = np.diff(stats.norm.cdf(middles, counted, spread))
        for chance, youden in cases(positives, sensitivity, specificity):
            if chance < 1e-5 or not youden.sees(level):
                continue
            for c, share in zip(grid.tolist(), chances.tolist(), strict=True):
                inner = StudentT(effect=c, error=spread, freedom=1e6, units=1e6)
                low, high = Corrected(counted=c, inner=inner, youden=youden).at(level)
                lost[0] += chance * share * (low > SHIFT)
                lost[1] += chance * share * (high < SHIFT)
        worst = max(worst, *lost)
    return worst / ((1 - level) / 2)


def main() -> None:
    columns = [*(f"J, {name}" for name in METHODS), "corrected, 0.01", "corrected, 0.04"]
    print(f"| positives | level | {' | '.join(columns)} |\n| ---: | --- |{' ---: |' * len(columns)}")
    for positives in (5, 8, 12, 17, 40):
        for name, level in LEVELS.items():
            found = [tails_of_index(method, positives, level) for method in METHODS.values()]
            found += [tails_of_shift(positives, error, level) for error in (0.01, 0.04)]
            print(f"| {positives} | {name} | {' | '.join(f'{x:.2f}' for x in found)} |", flush=True)


if __name__ == "__main__":
    main()
