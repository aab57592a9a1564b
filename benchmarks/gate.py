"""Error rates of the gate's statistics by simulation: coverage, A/A comparisons, power at the planned n, many nights.

    python benchmarks/gate.py [--runs 4000] [--json]

Every cell is a share of seeded runs; beside it stands its Monte-Carlo error sqrt(p (1 - p) / runs), or where the
question is a bound, the exact 95 % interval (Clopper and Pearson). Spearman takes a fifth of the runs. The tables
are those of docs/gate-statistics.md. With --json the last line is one JSON object of all rows.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from tuneshift.statistics.change import two_sample_change
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.permutation import sign_flip
from tuneshift.statistics.power import clustered_design, items_needed
from tuneshift.statistics.proportions import wilson_interval
from tuneshift.statistics.sequential import look_levels
from tuneshift.statistics.statistic import Arm, Statistic

Row = dict[str, Any]

LEVEL, ALPHA, CLAIMS = 0.95, 0.05, 13
SHARED = 0.5
"""Part of the variance that the items of a cluster have in common."""


def ids(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def labels(n: int, size: int) -> list[str]:
    return [f"c{i // size}" for i in range(n)]


def noise(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Unit-variance values [item] in clusters of one size."""
    if size == 1:
        return rng.normal(size=n)
    common = np.repeat(rng.normal(size=n // size), size)
    return math.sqrt(SHARED) * common + math.sqrt(1 - SHARED) * rng.normal(size=n)


def paired(values: np.ndarray, clusters: list[str] | None) -> Statistic:
    base = Arm(label="base", ids=ids(len(values)), values=np.zeros(len(values)))
    tuned = Arm(label="tuned", ids=base.ids, values=values)
    return paired_difference(base, tuned, clusters=clusters, level=LEVEL)


def flipped(values: np.ndarray, clusters: list[str], seed: int) -> float:
    base = Arm(label="base", ids=ids(len(values)), values=np.zeros(len(values)))
    tuned = Arm(label="tuned", ids=base.ids, values=values)
    return sign_flip(base, tuned, clusters=clusters, seed=seed, flips=999).p


def two_sample_run(scores: np.ndarray, high: np.ndarray) -> tuple[Arm, Arm]:
    names = np.array(ids(len(scores)))
    return (
        Arm(label="not followed", ids=tuple(names[~high].tolist()), values=scores[~high]),
        Arm(label="followed", ids=tuple(names[high].tolist()), values=scores[high]),
    )


def shared_row(hits: list[bool], **row: Any) -> Row:
    if not hits:
        return {**row, "share": None, "Monte-Carlo error": None}
    share = np.float64(np.mean(hits))
    return {**row, "share": share, "Monte-Carlo error": np.float64(math.sqrt(share * (1 - share) / len(hits)))}


def coverage(runs: int) -> Iterator[Row]:
    """Coverage of 95 % intervals of the change between two runs; half of a cluster's variance is shared."""
    for n, size in ((30, 1), (30, 2), (200, 1), (200, 5)):
        rng, clusters, hits, unknown = np.random.default_rng(1), labels(n, size), [], 0
        of_item = dict(zip(ids(n), clusters, strict=True))
        for _ in range(runs):
            common, high = noise(rng, n, size), rng.random(n) < 0.5
            moved = np.where(rng.random(n) < 1 / 3, ~high, high)
            before, after = (common + 0.7 * noise(rng, n, size) + 0.3 * k * h for k, h in ((1, high), (2, moved)))
            found = two_sample_change(
                two_sample_run(before, high), two_sample_run(after, moved), clusters=of_item, level=LEVEL
            )
            if math.isnan(found.p):
                unknown += 1
            else:
                hits.append(found.interval[0] <= 0.3 <= found.interval[1])
        yield shared_row(hits, statistic="two-sample change", n=n, **{"clusters of": size, "no interval": unknown})
    for n, share in ((30, 0.5), (30, 0.9), (200, 0.5), (200, 0.9)):
        rng, hits = np.random.default_rng(3), []
        for count in rng.binomial(n, share, size=runs):
            low, high_end = wilson_interval(count / n, n, LEVEL)
            hits.append(low <= share <= high_end)
        yield shared_row(hits, statistic=f"Wilson, share {share}", n=n, **{"clusters of": 1, "no interval": 0})


def false_alarms(runs: int) -> Iterator[Row]:
    """Rejections of the sign-flip test at 5 % without an effect, beside the t test; skewed values break symmetry."""
    for shape in ("normal", "skewed"):
        for n, size in ((30, 1), (30, 5), (200, 1), (200, 5)):
            rng, clusters, flips, ts = np.random.default_rng(4), labels(n, size), [], []
            for run in range(runs):
                values = noise(rng, n, size)
                if shape == "skewed":
                    values = stats.expon.ppf(stats.norm.cdf(values)) - 1
                flips.append(flipped(values, clusters, run) <= ALPHA)
                ts.append(paired(values, clusters).p <= ALPHA)
            row = {"values": shape, "n": n, "clusters of": size, "t": np.float64(np.mean(ts))}
            yield shared_row(flips, **row)


def null_gates(runs: int) -> Iterator[Row]:
    """A/A: 200 comparisons of a checkpoint with itself under noise, 13 claims at 5 % / 13. Red: one fell past a margin.

    The claims share half of their noise. Margin 0 is the hardest case; a margin is in sd of the differences. The last
    column is what testing each claim at 5 % gives.
    """
    n, comparisons = 100, 200
    for size in (1, 5):
        for margin in (0.0, 0.1):
            rng, red, loose, either = np.random.default_rng(5), 0, 0, 0
            for _ in range(comparisons):
                common = noise(rng, n, size)
                found = [
                    paired((common + noise(rng, n, size)) / math.sqrt(2) + margin, labels(n, size))
                    for _ in range(CLAIMS)
                ]
                p = [f.p for f in found]
                decided = np.array(p) <= ALPHA / CLAIMS
                fell = np.array([f.effect < 0 for f in found])
                red += bool(np.any(decided & fell))
                either += bool(np.any(decided & (fell | (margin == 0))))
                loose += bool(np.any((np.array(p) <= ALPHA) & fell))
            low, high = stats.binomtest(red, comparisons).proportion_ci(0.95)
            yield {
                "clusters of": size, "margin": margin, "comparisons": comparisons, "red": red,
                "95 % interval": f"{100 * low:.1f} to {100 * high:.1f} %", "red or improved": either,
                "red, each claim at 5 %": loose,
            }  # fmt: skip


def planned(runs: int) -> Iterator[Row]:
    """Power at the planned n, in sd of the differences; three points of the plan are allowed."""
    cases = (("beyond", 0.2, 0.1), ("beyond", 0.6, 0.1), ("noninferior", 0.0, 0.3), ("equivalent", 0.0, 0.3))
    for decision, effect, bound in cases:
        for size, icc in ((1, 0.0), (5, SHARED)):
            for power in (0.8, 0.9):
                design = clustered_design(sd=1.0, cluster_size=size, icc=icc)
                n = items_needed(
                    effect=effect, bound=bound, decision=decision, power=power, level=LEVEL, design=design
                )  # fmt: skip
                assert n is not None
                rng = np.random.default_rng(6)
                hits = []
                for _ in range(runs):
                    low, high = paired(effect + noise(rng, n, size), labels(n, size)).interval
                    hits.append(
                        {"beyond": low > bound, "noninferior": low > -bound, "equivalent": -bound < low < high < bound}[
                            decision
                        ]
                    )
                row = {"decision": decision, "effect": effect, "bound": bound, "clusters of": size}
                yield shared_row(hits, **row, planned=f"{power:.0%}", n=n)


def nights(runs: int) -> Iterator[Row]:
    """1,000 sequences of 30 looks at one baseline, 13 claims at a 13th of each, no true change: any false red in it.

    A night's difference is its own noise less the baseline's, so looks correlate by one half; 100 items.
    """
    sequences, looks, n = 1000, 30, 100
    p, fell = (np.empty((sequences, looks, CLAIMS), dtype=kind) for kind in (np.float64, np.bool_))
    rng = np.random.default_rng(7)
    for s in range(sequences):
        difference = rng.standard_normal((looks, CLAIMS, n), dtype=np.float32)
        difference -= rng.standard_normal((CLAIMS, n), dtype=np.float32)
        mean, sd = difference.mean(axis=2), difference.std(axis=2, ddof=1)
        t = mean / (sd / math.sqrt(n))  # paired_difference of items that are their own clusters
        p[s], fell[s] = 2 * stats.t.sf(np.abs(t), n - 1), t < 0
    smallest = p.min(axis=2)
    lowest_is_fall = np.take_along_axis(fell, p.argmin(axis=2)[..., None], axis=2)[..., 0]
    budgets = {kind: look_levels(ALPHA, looks, kind) for kind in ("even", "obrien-fleming", "pocock")}
    for name, spend in {**budgets, "none: 5 % each night": (ALPHA,) * looks}.items():
        decided = smallest <= np.array(spend) / CLAIMS
        red = (decided & lowest_is_fall).any(axis=1)
        some = int(decided.any(axis=1).sum())
        low, high = stats.binomtest(some, sequences).proportion_ci(0.95)
        yield {
            "budget": name, "sequences": sequences, "any red": np.float64(red.mean()),
            "any red or improved": np.float64(some / sequences),
            "95 % interval": f"{100 * low:.1f} to {100 * high:.1f} %",
            "first look": f"{100 * spend[0]:.2g} %", "last look": f"{100 * spend[-1]:.2g} %",
        }  # fmt: skip


def shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if isinstance(value, np.floating) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000, help="simulated comparisons per row (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    if options.runs < 100:
        parser.error(f"--runs is {options.runs}; at least 100 runs give a share that can be read")
    tables: dict[str, list[Row]] = {}
    for table in (coverage, false_alarms, null_gates, planned, nights):
        rows = tables[table.__name__] = list(table(options.runs))
        print(f"\n{table.__doc__}\n\n| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
        for row in rows:
            print(f"| {' | '.join(shown(v) for v in row.values())} |", flush=True)
    if options.json:
        print(json.dumps({"runs": options.runs, **tables}))


if __name__ == "__main__":
    main()
