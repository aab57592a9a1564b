"""The gate's rule on K claims: how often it is red without a change, how often with a loss in one claim, what it sees.

    python benchmarks/gate_rule.py [--runs 4000] [--interval BoundedT] [--json]

Outcomes are binary, the margin 0.05. By themselves 5 % of prompts flip each way; a loss takes further prompts down in
one claim. Claims are independent, which is the worst case for red without a change. Goals: at most 5 % red without a
change at any n; at least 80 % red at a loss of twice the margin in one claim at n = 348, and 95 % at n = 1,000.
Independent prompts are enumerated, without Monte-Carlo error. At design effects 2 and 3 prompts are asked in clusters
of four that share flips (intraclass correlation 1/3 and 2/3), in seeded runs of single claims; Monte-Carlo errors
beside them. "sees" is the loss that would be red in 80 % of runs (`detectable_loss`, with
the true spread and the interval's reach at no change), and "red there" the share that is red at that loss (of clusters,
for BoundedT alone). A claim that is inconclusive is yellow; "all held" is of all K. With --interval the table of
docs/gate.md, else all intervals that were compared. A few minutes of one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtr, stdtrit

from tuneshift.statistics.bounded import BoundedMean, exponential_tail
from tuneshift.statistics.gate_rule import Spread, detectable_loss
from tuneshift.statistics.paired_binary import PairedBinary, tango_score
from tuneshift.statistics.tail_error import SkewedT, smallest_trusted_error

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Row = dict[str, Any]

ALPHA, MARGIN, FLIPS, SIZE = 0.05, 0.05, 0.05, 4
METHODS = ("t", "Tango", "BoundedMean", "BoundedT")


@dataclass(frozen=True)
class Tails:
    """log P of each end's tail at a point, [case]: the end at error rate a lies beyond the point where it is below
    log(a / 2)."""

    low: dict[float, Floats]
    high: dict[float, Floats]


TABLE = np.exp(np.linspace(math.log(1e-4), math.log(10), 400))


@functools.cache
def _trusted() -> Floats:
    return np.array([smallest_trusted_error(float(g)) for g in TABLE])


def trusted_errors(skewness: Floats) -> Floats:
    """`smallest_trusted_error` of each, by interpolation."""
    return np.interp(np.log(np.maximum(np.abs(skewness), 1e-4)), np.log(TABLE), _trusted())


def outcomes(
    tails: Tails, skewed: Tails | None, trusted: Floats, agreeing: Tails | None, claims: int
) -> dict[str, Bools]:
    """Red, held, improved and inconclusive of each case, as `gate_outcome` has them."""
    shown, held_at = ALPHA / claims, 2 * ALPHA

    def beyond(side: str, point: float, error: float) -> Bools:
        hit: Bools = getattr(tails, side)[point] < math.log(error / 2)
        if skewed is None:
            return hit
        # Down to the rate to which t is trusted it decides; past it, t's interval there and the bounded one together.
        t: Bools = getattr(skewed, side)[point] < np.log(np.maximum(trusted, error) / 2)
        if agreeing is not None:  # no surer than without any change, where most units have none
            t &= (trusted > error) | (getattr(agreeing, side)[point] < math.log(error / 2))
        return np.where(trusted <= error, t, hit & (t | (trusted >= 0.5)))

    regressed = beyond("high", -MARGIN, shown)
    held = beyond("low", -MARGIN, held_at) & ~regressed
    worse = beyond("high", 0.0, shown) & ~regressed & ~held
    gained = beyond("low", 0.0, shown) & ~regressed & ~worse
    return {"red": regressed | worse, "held": held, "inconclusive": ~(regressed | worse | held | gained)}


def agreeing_tails(means: Floats, units: float, mostly_equal: Bools) -> Tails:
    """Exact tails of as many units which all have the mean; certain where most do not have one value."""

    def logs(point: float, sign: float) -> Floats:
        with np.errstate(all="ignore"):
            tail = units * np.log((1 - sign * point) / (1 - sign * means))
        return np.where(mostly_equal, np.where(sign * (point - means) > 0, tail, 0.0), -np.inf)

    points = (-MARGIN, 0.0)
    return Tails({x: logs(x, -1.0) for x in points}, {x: logs(x, 1.0) for x in points})


def tails_of(method: str, cases: Sequence[Any]) -> tuple[Tails, Tails | None, Floats, Tails | None]:
    points = (-MARGIN, 0.0)
    means, errors, skews, units = cases[:4]
    if method in ("t", "BoundedT"):
        freedom = units - 1
        low, high, s_low, s_high = {}, {}, {}, {}
        for point in points:
            with np.errstate(all="ignore"):
                t = np.where(errors < 1e-12, np.where(np.abs(means - point) < 1e-12, 0.0, np.inf * (means - point)),
                             (means - point) / errors)  # fmt: skip
                hall = np.where(errors < 1e-12, t, t + skews * t**2 / 3 + skews**2 * t**3 / 27 + skews / 6)
                low[point], high[point] = np.log(stdtr(freedom, -t)), np.log(stdtr(freedom, t))
                s_low[point] = np.maximum(low[point], np.log(stdtr(freedom, -hall)))
                s_high[point] = np.maximum(high[point], np.log(stdtr(freedom, hall)))
        if method == "t":
            return Tails(low, high), None, np.zeros(0), None
        bounded = cases[4]
        flat = errors < 1e-12  # then t says nothing and the bounded interval stands alone
        trusted = np.where(flat | ~np.isfinite(skews), 0.5, trusted_errors(np.nan_to_num(skews)))
        return bounded, Tails(s_low, s_high), trusted, agreeing_tails(means, units, cases[6])
    return cases[4] if method == "BoundedMean" else cases[5], None, np.zeros(0), None


def bounded_tails(values: Sequence[Floats], counts: Sequence[Floats], means: Floats) -> Tails:
    low: dict[float, list[float]] = {-MARGIN: [], 0.0: []}
    high: dict[float, list[float]] = {-MARGIN: [], 0.0: []}
    for v, c, m in zip(values, counts, means, strict=True):
        c = np.append(c, 1.0)
        for point in low:
            low[point].append(exponential_tail(np.append(point - v, point + 1), c) if m > point else 0.0)
            high[point].append(exponential_tail(np.append(v - point, 1 - point), c) if m < point else 0.0)
    return Tails({k: np.array(v) for k, v in low.items()}, {k: np.array(v) for k, v in high.items()})


def tango_tails(pairs: Sequence[PairedBinary]) -> Tails:
    def logs(sign: float, point: float) -> Floats:
        z = np.array([tango_score(p.gained, p.lost, p.n, point) for p in pairs]) * sign
        freedom = pairs[0].freedom
        with np.errstate(all="ignore"):
            return np.asarray(np.log(ndtr(-z) if math.isinf(freedom) else stdtr(freedom, -z)))

    points = (-MARGIN, 0.0)
    return Tails({x: logs(1.0, x) for x in points}, {x: logs(-1.0, x) for x in points})


def enumerated(n: int, loss: float) -> tuple[Floats, list[Any]]:
    """Probabilities of (gained, lost) of independent prompts, and what the intervals need of each."""
    from scipy.stats import multinomial

    up, down = FLIPS, FLIPS + loss
    most = [int(min(n, n * p + 7 * math.sqrt(n * p * (1 - p)) + 6)) for p in (up, down)]
    grid = np.array([(b, c) for b in range(most[0] + 1) for c in range(most[1] + 1) if b + c <= n])
    chance = multinomial.pmf(np.c_[grid, n - grid.sum(axis=1)], n, [up, down, 1 - up - down])
    keep = chance > 1e-8
    grid, chance = grid[keep], chance[keep]
    b, c = grid.T.astype(np.float64)
    m = (b - c) / n
    second = (b + c) / n - m**2
    third = (b * (1 - m) ** 3 + c * (-1 - m) ** 3 + (n - b - c) * (-m) ** 3) / n
    errors = np.sqrt(np.maximum(second, 0) / (n - 1))
    with np.errstate(all="ignore"):
        skews = third / second**1.5 * math.sqrt(n * (n - 1)) / (n - 2) / math.sqrt(n)
    values = [np.array([1.0, 0.0, -1.0])] * len(grid)
    counts = [np.array([x, n - x - y, y]) for x, y in grid.tolist()]
    pairs = [PairedBinary(gained=x, lost=y, n=n, units=n, freedom=math.inf) for x, y in grid.tolist()]
    equal = np.maximum(np.maximum(b, c), n - b - c) > n / 2
    return chance, [m, errors, skews, float(n), bounded_tails(values, counts, m), tango_tails(pairs), equal]


def clustered(n: int, loss: float, design: float, runs: int, seed: int) -> tuple[Floats, list[Any]]:
    """Runs of one claim in clusters of four whose flips go together; each run has the same weight."""
    rng = np.random.default_rng([seed, n, int(1000 * loss), int(design)])
    icc, clusters = (design - 1) / (SIZE - 1), n // SIZE
    chances = np.array([FLIPS, FLIPS + loss])
    own, common = rng.random((runs, clusters, SIZE)), rng.random((runs, clusters, 1))
    # An item takes its cluster's draw with probability sqrt(icc): two of them agree by it with probability icc.
    u = np.where(rng.random((runs, clusters, SIZE)) < math.sqrt(icc), common, own)
    x = (u < chances[0]) - 1.0 * (u > 1 - chances[1])
    means = x.mean(axis=2)
    m = means.mean(axis=1)
    d = means - m[:, None]
    errors = np.sqrt((d**2).sum(axis=1) / (clusters * (clusters - 1)))
    with np.errstate(all="ignore"):
        skews = (d**3).sum(axis=1) / (d**2).sum(axis=1) ** 1.5 * math.sqrt(clusters * (clusters - 1)) / (clusters - 2)
    distinct = [np.unique(row, return_counts=True) for row in means]
    labels = [str(g) for g in range(clusters) for _ in range(SIZE)]
    pairs = [PairedBinary.of(row.ravel(), labels) for row in x]
    bounded = bounded_tails([v for v, _ in distinct], [c.astype(np.float64) for _, c in distinct], m)
    equal = np.array([c.max() > clusters / 2 for _, c in distinct])
    return np.full(runs, 1 / runs), [m, errors, skews, float(clusters), bounded, tango_tails(pairs), equal]


def reach_of(method: str, n: int, design: float, claims: int) -> tuple[float, float, float]:
    """Standard error of a change of nothing, degrees of freedom, the interval's reach over t's at the rate of red."""
    units = n if design == 1 else n / SIZE
    error = math.sqrt(2 * FLIPS * design / n)
    flips = round(FLIPS * n)
    if method in ("t", "Tango"):
        return error, units - 1, 1.0
    values = np.r_[np.ones(flips), -np.ones(flips), np.zeros(n - 2 * flips)]
    level = 1 - ALPHA / claims
    if design > 1:
        # Whole clusters that flip together, in the number that gives the design effect.
        whole = max(1, round(flips * design / SIZE))
        values = np.repeat(np.r_[np.ones(whole), -np.ones(whole), np.zeros(int(units) - 2 * whole)], SIZE)
    labels = [str(i // (1 if design == 1 else SIZE)) for i in range(len(values))]
    intervals: Any = BoundedMean.of(values, labels, low=-1, high=1)
    t = float(stdtrit(units - 1, 1 - ALPHA / claims / 2))
    own = values.reshape(-1, 1 if design == 1 else SIZE).mean(axis=1)
    seen = own.std(ddof=1) / math.sqrt(len(own))
    if method == "BoundedT":
        skewed = SkewedT(effect=0.0, error=seen, freedom=units - 1, units=units, skewness=0.0)
        if not math.isnan(skewed.at(level)[0]):
            return error, units - 1, 1.0
    return error, units - 1, intervals.at(level)[1] / (t * seen)


def rows(runs: int, methods: Sequence[str], seed: int = 0) -> Iterator[Row]:
    for design, sizes in ((1.0, (58, 100, 348, 1000)), (2.0, (56, 100, 348, 1000)), (3.0, (56, 100, 348, 1000))):
        for n in sizes:
            made = {}
            for loss in (0.0, MARGIN, 2 * MARGIN):
                made[loss] = enumerated(n, loss) if design == 1 else clustered(n, loss, design, runs, seed)
            for method in methods:
                for claims in (11, 18):
                    chance, cases = made[0.0]
                    found = outcomes(*tails_of(method, cases), claims)
                    still = {name: float(chance @ hit) for name, hit in found.items()}
                    edge_chance, edge_cases = made[MARGIN]
                    wrongly = float(edge_chance @ outcomes(*tails_of(method, edge_cases), claims)["held"])
                    lost_chance, lost_cases = made[2 * MARGIN]
                    red = float(lost_chance @ outcomes(*tails_of(method, lost_cases), claims)["red"])
                    error, freedom, reach = reach_of(method, n, design, claims)
                    spread = Spread(error=error, freedom=freedom, step=1.0, items=n / design)
                    sees = detectable_loss(spread=spread, direction="greater", margin=MARGIN, claims=claims,
                                           alpha=ALPHA, reach=reach)  # fmt: skip
                    seen = math.nan
                    if 2 * FLIPS + sees < 1 and (design == 1 or method == "BoundedT"):
                        there = enumerated(n, sees) if design == 1 else clustered(n, sees, design, runs // 2, seed)
                        seen = float(there[0] @ outcomes(*tails_of(method, there[1]), claims)["red"])
                    sampling = 0.0 if design == 1 else 1 / math.sqrt(runs)  # independent prompts are enumerated
                    any_red = 1 - (1 - still["red"]) ** claims
                    yield {
                        "design effect": int(design), "n": n, "claims": claims, "interval": method,
                        "red without a change": any_red,
                        "error of it": claims * sampling * math.sqrt(still["red"] * (1 - still["red"])),
                        "a claim held": still["held"], "all held": still["held"] ** claims,
                        "a claim inconclusive": still["inconclusive"], "held at a loss of m": wrongly,
                        "red at a loss of 0.1": red,
                        "error of that": sampling * math.sqrt(red * (1 - red)),
                        "sees": sees, "red there": seen,
                    }  # fmt: skip


def print_table(found: Iterable[Row]) -> None:
    """The rows as docs/gate.md has them: per cent, with Monte-Carlo errors where runs were drawn."""
    heads = ("design effect", "n", "K", "red without a change", "a claim held", "all held", "held at a loss of m",
             "red at a loss of 2 m", "sees", "red there")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{' ---: |' * len(heads)}")
    for row in found:
        drawn = row["design effect"] > 1
        red, lost = (
            f"{100 * row[name]:.1f}{f' ± {100 * row[error]:.1f}' if drawn else ''} %"
            for name, error in (("red without a change", "error of it"), ("red at a loss of 0.1", "error of that"))
        )
        shares = [f"{100 * row[name]:.0f} %" for name in ("a claim held", "all held")]
        shares.append(f"{100 * row['held at a loss of m']:.1f} %")
        there = "–" if math.isnan(row["red there"]) else f"{100 * row['red there']:.0f} %"
        cells = [row["design effect"], row["n"], row["claims"], red, *shares, lost, f"{row['sees']:.3f}", there]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--interval", choices=METHODS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.interval is not None:
        print_table(rows(options.runs, [options.interval]))
        return
    found = list(rows(options.runs, METHODS))
    print("| " + " | ".join(found[0]) + " |\n|" + " --- |" * len(found[0]))
    for row in found:
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
