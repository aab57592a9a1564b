"""Do intervals hold their level? Errors of each tail by itself, of today's intervals and of those that replace them.

    python benchmarks/interval_levels.py [means|binary|uneven|groups|smooth|lengths|range ...] [--runs 20000] [--json]

A cell is the share of seeded runs whose interval lies wholly above (below) the truth, divided by the nominal tail: 1 is
as stated, the target is at most 1.5 in each. "none" is the share of runs without an interval; the others' errors are
counted over all runs, so that an interval that is refused errs in neither tail. Beside each level stands the
Monte-Carlo error of a cell that errs as stated. "within 1.5" says whether both errors are ("within error": above by
less than two Monte-Carlo errors), or "refused" where more than 20 % of runs have no interval. Paired binary outcomes
without clusters are enumerated, without Monte-Carlo error. About fifteen minutes of one core with all parts.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tuneshift.statistics.bootstrap import bootstrap_statistic
from tuneshift.statistics.bounded import BoundedMean, BoundedT, exponential_tail
from tuneshift.statistics.clustered import mean_influence
from tuneshift.statistics.estimates import weighted_auc, weighted_spearman
from tuneshift.statistics.intervals import Expanded, NoIntervals, StudentT
from tuneshift.statistics.jackknife import jackknife, jackknife_change
from tuneshift.statistics.mean_intervals import difference_intervals
from tuneshift.statistics.paired_binary import PairedBinary, tango_score
from tuneshift.statistics.tail_error import SkewedT, estimate_skewness, smallest_trusted_error

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]

LEVELS = {"95 %": 0.95, "alpha/4": 1 - 0.05 / 4, "alpha/10": 1 - 0.05 / 10}
TARGET, REFUSED = 1.5, 0.2
SHARED = 0.5
"""Part of a cluster's (latent) variance that its items have in common."""
ZEROS = 0.9


def latent(rng: np.random.Generator, runs: int, clusters: int, size: int) -> Floats:
    """Standard normal values [run, cluster, item]."""
    own = rng.normal(size=(runs, clusters, size))
    if size == 1:
        return own
    return math.sqrt(SHARED) * rng.normal(size=(runs, clusters, 1)) + math.sqrt(1 - SHARED) * own


KINDS: dict[str, tuple[Callable[[Floats], Floats], float, tuple[float, float] | None]] = {
    "normal": (lambda z: z, 0.0, None),
    "lognormal, sigma 0.5": (lambda z: np.exp(z / 2), math.exp(0.125), None),
    "lognormal, sigma 1": (np.exp, math.exp(0.5), None),
    "90 % zeros, exponential": (
        lambda z: np.where(ndtr(z) < ZEROS, 0.0, -np.log(np.maximum(1e-300, (1 - ndtr(z)) / (1 - ZEROS)))), 0.1, None,
    ),
    "90 % zeros, uniform": (lambda z: np.maximum(0.0, (ndtr(z) - ZEROS) / (1 - ZEROS)), 0.05, (0.0, 1.0)),
    "binary, 5 %": (lambda z: (ndtr(z) > 0.95).astype(np.float64), 0.05, (0.0, 1.0)),
    "binary, 20 %": (lambda z: (ndtr(z) > 0.8).astype(np.float64), 0.2, (0.0, 1.0)),
    "paired binary, 5 % up, 10 % down": (lambda z: (ndtr(z) > 0.95) - 1.0 * (ndtr(z) < 0.1), -0.05, (-1.0, 1.0)),
    "paired binary, 10 % down": (lambda z: -1.0 * (ndtr(z) < 0.1), -0.1, (-1.0, 1.0)),
    "uniform differences": (lambda z: ndtr(z) - 0.5, 0.0, (-1.0, 1.0)),
    "beta(0.3, 2.7)": (None, 0.1, (0.0, 1.0)),  # type: ignore[dict-item]
}  # fmt: skip
"""Name -> map of standard normal values, true mean, range."""


def values(kind: str, z: Floats, rng: np.random.Generator) -> Floats:
    if kind == "beta(0.3, 2.7)":
        # Its quantiles have no closed form; a table of them at fine steps does.
        from scipy.special import betaincinv

        grid = np.linspace(0, 1, 20001)
        return np.interp(ndtr(z), grid, betaincinv(0.3, 2.7, grid))
    return KINDS[kind][0](z)


def gaffke_misses(means: Floats, truth: float, span: tuple[float, float]) -> tuple[Floats, Floats]:
    """log P of the bootstrapped mean beyond the truth, of equal clusters' means [run, cluster], both ends [run]; 0
    where the truth lies on the mean's side, which no tail under a half calls a miss."""
    low, high = np.zeros(len(means)), np.zeros(len(means))
    for r, row in enumerate(means):
        mean = row.mean()
        v, c = np.unique(np.round(row, 12), return_counts=True)
        c = np.append(c, 1.0)
        if mean > truth:
            low[r] = exponential_tail(np.append(truth - v, truth - span[0]), c)
        elif mean < truth:
            high[r] = exponential_tail(np.append(v - truth, span[1] - truth), c)
    return low, high


def trusted_errors(skewness: Floats) -> Floats:
    """`smallest_trusted_error` of each, by interpolation."""
    table = np.exp(np.linspace(math.log(1e-4), math.log(10), 400))
    return np.interp(np.log(np.maximum(np.abs(skewness), 1e-4)), np.log(table), _trusted(tuple(table)))


@functools.cache
def _trusted(table: tuple[float, ...]) -> Floats:
    return np.array([smallest_trusted_error(g) for g in table])


def cell(low: npt.NDArray[np.bool_], high: npt.NDArray[np.bool_], none: npt.NDArray[np.bool_], level: float) -> Row:
    tail = (1 - level) / 2
    return {"above": np.mean(low & ~none) / tail, "below": np.mean(high & ~none) / tail, "none": np.mean(none)}


def means(runs: int, seed: int = 0) -> Iterator[Row]:
    """The mean of independent values, and of clusters of five."""
    for kind, (_, truth, span) in KINDS.items():
        for clusters, size in [(20, 1), (60, 1), (300, 1), (8, 5), (15, 5), (40, 5)]:
            rng = np.random.default_rng([seed, clusters, size])
            few = runs if span is None else min(runs, 4000)
            x = values(kind, latent(rng, few, clusters, size), rng).mean(axis=2)  # cluster means
            m = x.mean(axis=1)
            d = x - m[:, None]
            error = np.sqrt((d**2).sum(axis=1) / (clusters * (clusters - 1)))
            flat = error < 1e-12
            with np.errstate(all="ignore"):
                t = np.where(flat, np.where(np.abs(m - truth) < 1e-12, 0.0, np.inf * (m - truth)), (m - truth) / error)
                raw = (d**3).sum(axis=1) / (d**2).sum(axis=1) ** 1.5
            skew = np.nan_to_num(raw) * math.sqrt(clusters * (clusters - 1)) / (clusters - 2)
            with np.errstate(all="ignore"):
                hall = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
            log_low, log_high = gaffke_misses(x, truth, span) if span else (None, None)
            for name, level in LEVELS.items():
                q = float(stdtrit(clusters - 1, (1 + level) / 2))
                tail = (1 - level) / 2
                enough = clusters >= 1 + math.ceil(math.log2(1 / (1 - level)))
                none = np.full(few, not enough)
                low, high = t > q, t < -q
                z = -ndtri(tail)
                density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
                first = np.abs(skew) * (2 * z**2 + 1) / 6 * density > tail / 2
                second = skew**2 * z * (z**4 + 2 * z**2 - 3) / 18 * density > tail / 2
                skew_low, skew_high = low & (hall > q), high & (hall < -q)
                row = {"values": kind, "units": clusters, "items each": size, "level": name,
                       "Monte-Carlo error": math.sqrt(1 / (tail * few))}  # fmt: skip
                yield {**row, "interval": "t (today)", **cell(low, high, none, level)}
                yield {**row, "interval": "t, refused by first order", **cell(low, high, none | first | flat, level)}
                yield {**row, "interval": "SkewedT", **cell(skew_low, skew_high, none | second | flat, level)}
                if span is None:
                    continue
                b_low, b_high = log_low < math.log(tail), log_high < math.log(tail)
                trusted = enough & ~(second | flat)
                never = np.zeros(few, dtype=bool)
                yield {**row, "interval": "BoundedMean", **cell(b_low, b_high, never, level)}
                # Past the level to which t is trusted, t's interval there is joined with the bounded one.
                last = trusted_errors(skew) / 2
                last = np.where(flat | (last >= 0.25), 1.0, np.maximum(last, 2.0**-clusters))
                with np.errstate(all="ignore"):
                    t_low = np.maximum(stdtr(clusters - 1, -t), stdtr(clusters - 1, -hall)) < last
                    t_high = np.maximum(stdtr(clusters - 1, t), stdtr(clusters - 1, hall)) < last
                both_low = np.where(trusted, skew_low, b_low & (t_low | flat | (last == 1.0)))
                both_high = np.where(trusted, skew_high, b_high & (t_high | flat | (last == 1.0)))
                yield {**row, "interval": "BoundedT", **cell(both_low, both_high, never, level)}


def binary(runs: int, seed: int = 1) -> Iterator[Row]:
    """Paired binary outcomes: enumerated for independent pairs, simulated for clusters."""
    from scipy.stats import multinomial

    for n in (20, 60, 300):
        for up, down in ((0.05, 0.05), (0.02, 0.02), (0.05, 0.1), (0.1, 0.3), (0.0, 0.05), (0.0, 0.2), (0.01, 0.0)):
            truth = up - down
            most = [int(min(n, n * p + 8 * math.sqrt(n * p * (1 - p)) + 8 if p else 0)) for p in (up, down)]
            counts = np.array([(b, c) for b in range(most[0] + 1) for c in range(most[1] + 1) if b + c <= n])
            chance = multinomial.pmf(np.c_[counts, n - counts.sum(axis=1)], n, [up, down, 1 - up - down])
            counts, chance = counts[chance > 1e-10], chance[chance > 1e-10]
            b, c = counts.T
            m = (b - c) / n
            sd = np.sqrt(np.maximum(0, (b + c) / n - m**2) * n / (n - 1))
            with np.errstate(all="ignore"):
                t = np.where(sd < 1e-9, np.where(np.abs(m - truth) < 1e-12, 0.0, np.inf * (m - truth)),
                             (m - truth) / sd * math.sqrt(n))  # fmt: skip
            score = np.array([tango_score(x, y, n, truth) for x, y in counts.tolist()])
            ends = [_gaffke_counts(x, y, n, truth) for x, y in counts.tolist()]
            log_low, log_high = np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
            for name, level in LEVELS.items():
                tail = (1 - level) / 2
                q, z, cut = float(stdtrit(n - 1, 1 - tail)), -float(ndtri(tail)), math.log(tail)
                row = {"pairs": n, "gained": up, "lost": down, "design effect": 1, "level": name}
                for label, low, high in (("t (today)", t > q, t < -q), ("Tango", score > z, score < -z),
                                         ("BoundedMean", log_low < cut, log_high < cut)):  # fmt: skip
                    yield {**row, "interval": label, "above": chance[low].sum() / tail,
                           "below": chance[high].sum() / tail, "none": 0.0}  # fmt: skip
    few = min(runs, 4000)
    for clusters in (8, 15, 40):
        for up, down in ((0.05, 0.05), (0.05, 0.1), (0.1, 0.3)):
            rng = np.random.default_rng([seed, clusters])
            z = latent(rng, few, clusters, 5)
            x = (ndtr(z) > 1 - up) - 1.0 * (ndtr(z) < down)
            labels = [str(g) for g in range(clusters) for _ in range(5)]
            found = [PairedBinary.of(row.ravel(), labels) for row in x]
            truth = up - down
            log_low, log_high = gaffke_misses(x.mean(axis=2), truth, (-1.0, 1.0))
            m, error = x.mean(axis=(1, 2)), x.mean(axis=2).std(axis=1, ddof=1) / math.sqrt(clusters)
            with np.errstate(all="ignore"):
                t = np.where(error < 1e-9, np.where(np.abs(m - truth) < 1e-12, 0.0, np.inf * (m - truth)),
                             (m - truth) / error)  # fmt: skip
            score = np.array([tango_score(f.gained, f.lost, f.n, truth) for f in found])
            for name, level in LEVELS.items():
                tail, never = (1 - level) / 2, np.zeros(few, dtype=bool)
                q = float(stdtrit(clusters - 1, 1 - tail))
                few_units = np.full(few, clusters < 1 + math.ceil(math.log2(1 / (1 - level))))
                row = {"pairs": clusters * 5, "gained": up, "lost": down, "clusters": clusters, "level": name,
                       "Monte-Carlo error": math.sqrt(1 / (tail * few))}  # fmt: skip
                yield {**row, "interval": "t (today)", **cell(t > q, t < -q, few_units, level)}
                yield {**row, "interval": "Tango", **cell(score > q, score < -q, few_units, level)}
                yield {**row, "interval": "BoundedMean",
                       **cell(log_low < math.log(tail), log_high < math.log(tail), never, level)}  # fmt: skip


def _gaffke_counts(gained: float, lost: float, n: int, truth: float) -> tuple[float, float]:
    mean = (gained - lost) / n
    v, c = np.array([1.0, 0.0, -1.0]), np.array([gained, n - gained - lost, lost, 1.0])
    if mean > truth:
        return exponential_tail(np.append(truth - v, truth + 1), c), 0.0
    return 0.0, exponential_tail(np.append(v - truth, 1 - truth), c) if mean < truth else 0.0


def smooth(runs: int, seed: int = 2) -> Iterator[Row]:
    """Spearman's correlation, AUC, slope and change of a correlation over clusters."""
    few, boots = max(200, runs // 5), max(100, runs // 40)
    cases: list[tuple[str, float, tuple[float, float] | None]] = [
        ("Spearman", 0.0, (-1, 1)), ("Spearman", 0.5, (-1, 1)), ("AUC", 0.0, (0, 1)), ("AUC", 1.0, (0, 1)),
        ("slope", 0.0, None), ("Spearman change", 0.0, (-1, 1)), ("Spearman change", 0.3, (-1, 1)),
    ]  # fmt: skip
    for name, strength, span in cases:
        for clusters, size in [(8, 5), (15, 5), (40, 5), (20, 1), (60, 1)]:
            rng = np.random.default_rng([seed, clusters, size])
            labels = [str(g) for g in range(clusters) for _ in range(size)]
            rows: dict[tuple[str, str], list[tuple[bool, bool, bool]]] = {}
            for run in range(few):
                estimate, truth, before, after = _drawn(name, strength, clusters, size, rng)
                if before is None:
                    found = jackknife(estimate, labels, span=span).intervals
                else:
                    found = jackknife_change(before, after, labels, span=span).intervals
                plain = jackknife(estimate, labels, span=None).intervals if span else None
                kinds: dict[str, Any] = {"jackknife t" if span is None else "jackknife t on the logit": found}
                if plain is not None:
                    kinds["jackknife t on its own scale"] = plain
                if run < boots:
                    drawn = bootstrap_statistic(estimate, arms=(), clusters=labels, level=0.95, seed=run, resamples=999)
                    kinds["BCa (today)"] = drawn.intervals
                    kinds["BCa, expanded by t"] = Expanded(inner=drawn.intervals, units=clusters)
                for kind, intervals in kinds.items():
                    for label, level in LEVELS.items():
                        low, high = intervals.at(level) if intervals is not None else (math.nan, math.nan)
                        rows.setdefault((kind, label), []).append((low > truth, high < truth, math.isnan(low)))
            for (kind, label), hits in sorted(rows.items()):
                tail = (1 - LEVELS[label]) / 2
                above, below, none = np.array(hits, dtype=bool).T
                yield {"statistic": name, "strength": strength, "clusters": clusters, "items each": size,
                       "level": label, "interval": kind, "Monte-Carlo error": math.sqrt(1 / (tail * len(hits))),
                       **cell(above, below, none, LEVELS[label])}  # fmt: skip


def _drawn(
    name: str, strength: float, clusters: int, size: int, rng: np.random.Generator
) -> tuple[Any, float, Any, Any]:
    """An estimate of a fresh sample, its true value, and of a change the estimates before and after."""
    x, e, f = (latent(rng, 1, clusters, size).ravel() for _ in range(3))
    rank = lambda r: 6 / math.pi * math.asin(r / 2)  # noqa: E731 - Spearman's of a normal correlation r
    if name == "Spearman":
        return weighted_spearman(x, strength * x + math.sqrt(1 - strength**2) * e), rank(strength), None, None
    if name == "AUC":
        is_high = rng.random(len(x)) < 0.4
        return weighted_auc(x + strength * is_high, is_high), float(ndtr(strength / math.sqrt(2))), None, None
    if name == "slope":
        quarter = rng.integers(0, 4, len(x)).astype(np.float64)
        return weighted_slope(quarter, np.exp(e)), 0.0, None, None
    # The same prompts in both runs; the outcomes share most of their noise.
    old = weighted_spearman(x, 0.5 * x + math.sqrt(0.75) * e)
    mixed = math.sqrt(0.7) * e + math.sqrt(0.3) * f
    new_strength = 0.5 - strength
    new = weighted_spearman(x, new_strength * x + math.sqrt(1 - new_strength**2) * mixed)
    return (lambda w: new(w) - old(w)), rank(new_strength) - rank(0.5), old, new


def weighted_slope(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Slope of the weighted least-squares line of ``y`` on ``x``, both [item]; NaN where all weight is at one x."""

    def estimate(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        # Sums about the unweighted means lose no digits; the slope does not depend on the origin.
        dx, dy = x - x.mean(), y - y.mean()
        wx, wy = weights @ dx, weights @ dy
        spread = (weights @ dx**2) * total - wx**2
        shared = (weights @ (dx * dy)) * total - wx * wy
        enough = spread > 1e-9 * total**2
        return np.asarray(np.divide(shared, spread, out=np.full(len(weights), np.nan), where=enough))

    return estimate


def lengths(runs: int, seed: int = 3) -> Iterator[Row]:
    """Mean length of intervals of bounded means in units of t's, and both tails' errors together."""
    few = max(50, runs // 200)
    for kind in ("90 % zeros, uniform", "binary, 20 %", "paired binary, 5 % up, 10 % down", "uniform differences"):
        truth, span = KINDS[kind][1], KINDS[kind][2]
        assert span is not None
        for n in (20, 60, 300):
            x = values(kind, latent(np.random.default_rng([seed, n]), few, n, 1), np.random.default_rng(0))[:, :, 0]
            for name, level in (("95 %", 0.95), ("alpha/10", 0.995)):
                q = float(stdtrit(n - 1, (1 + level) / 2))
                t = np.stack(
                    [x.mean(1) - q * x.std(1, ddof=1) / math.sqrt(n), x.mean(1) + q * x.std(1, ddof=1) / math.sqrt(n)]
                )
                tango = (
                    np.array([PairedBinary.of(r, [str(i) for i in range(n)]).at(level) for r in x]).T
                    if "paired" in kind
                    else None
                )
                gaffke = [BoundedMean.of(r, [str(i) for i in range(n)], low=span[0], high=span[1]) for r in x]
                mixed = [BoundedT(t=_skewed(r), bounded=g) for r, g in zip(x, gaffke, strict=True)]
                unit = (x - span[0]) / (span[1] - span[0])
                found = {"BoundedMean": np.array([g.at(level) for g in gaffke]).T,
                         "BoundedT": np.array([g.at(level) for g in mixed]).T,
                         "empirical Bernstein": _bernstein(unit, level), "betting": _betting(unit, level)}  # fmt: skip
                if tango is not None:
                    found["Tango"] = tango
                scaled = ("empirical Bernstein", "betting")
                for label, ends in found.items():
                    low, high = ends * (span[1] - span[0]) + span[0] if label in scaled else ends
                    yield {"values": kind, "n": n, "level": name, "interval": label,
                           "length / t": np.mean(high - low) / np.mean(t[1] - t[0]),
                           "misses": np.mean((low > truth) | (high < truth)), "runs": few}  # fmt: skip


def _skewed(x: Floats) -> SkewedT:
    n = len(x)
    d = (x - x.mean()) / math.sqrt(n * (n - 1))
    return SkewedT(effect=float(x.mean()), error=float(np.sqrt(np.sum(d**2))), freedom=n - 1, units=n,
                   skewness=estimate_skewness(d, n))  # fmt: skip


def _bernstein(x: Floats, level: float) -> Floats:
    """Maurer and Pontil (2009, theorem 4) of values in 0..1 [run, item], each end at half of the error rate."""
    n, log = x.shape[1], math.log(2 / ((1 - level) / 2))
    half = np.sqrt(2 * x.var(axis=1, ddof=1) * log / n) + 7 * log / (3 * (n - 1))
    return np.stack([np.maximum(0, x.mean(axis=1) - half), np.minimum(1, x.mean(axis=1) + half)])


def _betting(x: Floats, level: float) -> Floats:
    """Waudby-Smith and Ramdas' hedged capital for a fixed n (2024, section 4.4, remark 3) of values in 0..1."""
    runs, n = x.shape
    alpha, count = 1 - level, np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x, axis=1)) / (count + 1)
    spread = (0.25 + np.cumsum((x - mean) ** 2, axis=1)) / (count + 1)
    before = np.concatenate([np.full((runs, 1), 0.25), spread[:, :-1]], axis=1)
    bet = np.sqrt(2 * math.log(2 / alpha) / (n * before))

    def rejected(m: Floats, sign: float) -> npt.NDArray[np.bool_]:
        room = m[:, None] if sign > 0 else 1 - m[:, None]
        stake = np.minimum(bet, 0.5 / np.maximum(room, 1e-12))
        wealth = np.cumsum(np.log1p(sign * stake * (x - m[:, None])), axis=1).max(axis=1)
        return wealth >= math.log(2 / alpha)

    ends = []
    for sign, inside, outside in ((1.0, x.mean(axis=1), np.zeros(runs)), (-1.0, x.mean(axis=1), np.ones(runs))):
        for _ in range(40):
            middle = (inside + outside) / 2
            out = rejected(middle, sign)
            inside, outside = np.where(out, inside, middle), np.where(out, middle, outside)
        ends.append(outside)
    return np.stack(ends)


def uneven(runs: int, seed: int = 5) -> Iterator[Row]:
    """The mean over items of clusters of uneven sizes that share half of their variance: BoundedMean beside t."""
    few = min(runs, 4000)
    designs = {"twelve task types": np.array([5, 8, 10, 12, 15, 18, 20, 25, 30, 40, 60, 105]),
               "growing by 1.3": np.maximum(1, np.round(1.3 ** np.arange(20))).astype(np.int64)}  # fmt: skip
    for design, sizes in designs.items():
        labels = [str(g) for g, size in enumerate(sizes) for _ in range(size)]
        codes = np.repeat(np.arange(len(sizes)), sizes)
        units = sizes.sum() ** 2 / np.sum(sizes**2)
        for kind in ("90 % zeros, uniform", "binary, 5 %", "binary, 20 %", "uniform differences"):
            truth, span = KINDS[kind][1], KINDS[kind][2]
            assert span is not None
            rng = np.random.default_rng([seed, len(sizes)])
            hits: dict[str, list[tuple[float, float]]] = {"t (today)": [], "BoundedMean": []}
            for _ in range(few):
                common, own = rng.normal(size=len(sizes))[codes], rng.normal(size=len(codes))
                z = math.sqrt(SHARED) * common + math.sqrt(1 - SHARED) * own
                x = values(kind, z, rng)
                found = BoundedMean.of(x, labels, low=span[0], high=span[1])
                moves = mean_influence(x, codes, len(sizes))
                error, gap = float(np.sqrt(np.sum(moves**2))), float(x.mean()) - truth
                t = gap / error if error > 0 else math.copysign(math.inf, gap)
                hits["t (today)"].append((float(stdtr(units - 1, -t)), float(stdtr(units - 1, t))))
                hits["BoundedMean"].append((
                    math.exp(found._log_tail(-truth, -1.0)) if gap > 0 else 1.0,
                    math.exp(found._log_tail(truth, 1.0)) if gap < 0 else 1.0,
                ))  # fmt: skip
            for interval, tails in hits.items():
                low, high = np.array(tails).T
                for name, level in LEVELS.items():
                    tail = (1 - level) / 2
                    none = np.full(few, interval != "BoundedMean" and units < 1 + math.ceil(math.log2(1 / (1 - level))))
                    yield {"values": kind, "sizes": design, "effective": float(units), "level": name,
                           "Monte-Carlo error": math.sqrt(1 / (tail * few)), "interval": interval,
                           **cell(low < tail, high < tail, none, level)}  # fmt: skip


def groups(runs: int, seed: int = 6) -> Iterator[Row]:
    """The difference of two groups' means, second less first, by Welch and by what replaces it."""
    for kind in ("normal", "lognormal, sigma 0.5", "lognormal, sigma 1", "90 % zeros, exponential", "binary, 20 %"):
        span = KINDS[kind][2]
        few = min(runs, 4000 if span is None else 600)
        for first, second in ((20, 60), (60, 60), (44, 194)):
            rng = np.random.default_rng([seed, first, second])
            labels = [str(i) for i in range(first + second)]
            hits: dict[tuple[str, str], list[tuple[bool, bool, bool]]] = {}
            for _ in range(few):
                x = values(kind, rng.normal(size=first + second), rng)
                found = difference_intervals(x[:first], x[first:], labels, span=span, rounding=1e-12)
                t = getattr(found, "t", found)
                kinds = {"Welch (today)": _plain_t(t), "SkewedT" if span is None else "BoundedT": found}
                for interval, intervals in kinds.items():
                    for name, level in LEVELS.items():
                        low, high = intervals.at(level)
                        hits.setdefault((interval, name), []).append((low > 0, high < 0, math.isnan(low)))
            for (interval, name), rows in sorted(hits.items()):
                tail = (1 - LEVELS[name]) / 2
                above, below, none = np.array(rows, dtype=bool).T
                yield {"values": kind, "first": first, "second": second, "level": name,
                       "Monte-Carlo error": math.sqrt(1 / (tail * few)), "interval": interval,
                       **cell(above, below, none, LEVELS[name])}  # fmt: skip


def _plain_t(t: Any) -> Any:
    if not isinstance(t, SkewedT):
        return NoIntervals()
    return StudentT(effect=t.effect, error=t.error, freedom=t.freedom, units=t.units)


def range_check(runs: int, seed: int = 4) -> Iterator[Row]:
    """Gaffke's upper bound on random distributions of two to four values, enumerated: the largest error found over the
    nominal tail. That it is never above 1 is a conjecture."""
    from scipy.stats import multinomial

    for n in (2, 3, 5, 8, 12):
        rng = np.random.default_rng([seed, n])
        worst = dict.fromkeys((0.25, 0.025, 0.00625, 0.0025), 0.0)
        tried = max(50, runs // 50)
        for _ in range(tried):
            k = int(rng.integers(2, 5))
            support = np.unique(np.r_[rng.random(k - 1) ** rng.choice([0.3, 1, 3]), rng.integers(0, 2)])
            chance = rng.dirichlet(np.full(len(support), rng.choice([0.3, 1.0])))
            truth = float(support @ chance)
            counts = np.array(list(_compositions(n, len(support))))
            weights = np.nan_to_num(multinomial.pmf(counts, n, chance / chance.sum()))
            logs = np.array(
                [exponential_tail(np.append(support - truth, 1 - truth), np.append(c, 1.0)) for c in counts]
            )
            for tail in worst:
                worst[tail] = max(worst[tail], float(weights[logs < math.log(tail)].sum()) / tail)
        for tail, error in worst.items():
            yield {"n": n, "tail": str(tail), "distributions": tried, "largest error": error}


def _compositions(n: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in _compositions(n - first, parts - 1):
            yield (first, *rest)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "means": means, "binary": binary, "uneven": uneven, "groups": groups,
    "smooth": smooth, "lengths": lengths, "range": range_check,
}  # fmt: skip


def solved(row: Row) -> str:
    if row["none"] > REFUSED:
        return "refused"
    worst = max(row["above"], row["below"])
    if worst <= TARGET:
        return "yes"
    return "within error" if worst <= TARGET + 2 * row.get("Monte-Carlo error", 0.0) else "no"


def shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float | np.floating) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    everything = {}
    for part in options.parts or PARTS:
        rows = [{**row, **({"within 1.5": solved(row)} if "above" in row else {})} for row in PARTS[part](options.runs)]
        everything[part] = rows
        columns = list(dict.fromkeys(name for row in rows for name in row))
        print(f"\n## {part}\n\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
        for row in rows:
            print("| " + " | ".join(shown(row[name]) if name in row else "" for name in columns) + " |")
        if "above" in rows[0]:
            words = ("yes", "within error", "no", "refused")
            print(f"\n{part}: cells by interval: {' / '.join(words)}")
            for kind in dict.fromkeys(row["interval"] for row in rows):
                outcome = [row["within 1.5"] for row in rows if row["interval"] == kind]
                print(f"  {kind}: {' / '.join(str(outcome.count(word)) for word in words)}")
    if options.json:
        print(json.dumps(everything, default=float))


if __name__ == "__main__":
    main()
