"""Error rates of the statistics by simulation: false positives, coverage, power, and what the wrong choices would cost.

    python benchmarks/false_positives.py [--runs 4000] [--json]

Every cell is a share of seeded runs with Monte-Carlo error sqrt(p (1 - p) / runs): 0.34 points at 5 % and 4,000 runs,
0.69 in the two-sample table, which takes a quarter of the runs. The tables are
those of docs/statistics.md. With --json the last line is one JSON object of all rows.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import stdtrit

from tuneshift.claims.finding import Finding, Outcome
from tuneshift.claims.verdict import judge
from tuneshift.statistics.differences import paired_difference, two_sample_difference
from tuneshift.statistics.statistic import Arm, Statistic

Row = dict[str, Any]
Draw = Callable[[np.random.Generator, int], np.ndarray]

LEVEL = 0.95
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails (t, 3 df)": lambda rng, n: rng.standard_t(3, size=n),
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1,
}
SIZES = {
    "fives": [5] * 40,
    "1 to 30": list(range(1, 31)),
    "growing by 1.3": [int(1.3**k) + 1 for k in range(20)],
    "twelve task types": [30, 25, 20, 20, 18, 15, 12, 10, 8, 5, 3, 2],
}
CLAIM = Finding(
    id="simulated.shift", title="", claim="", source="", direction="greater", unit="sd of differences", sesoi=0.1,
    sesoi_reason="a tenth of a standard deviation", how="", needs=(),
)  # fmt: skip


def arm(label: str, values: np.ndarray) -> Arm:
    return Arm(label=label, ids=tuple(f"{label}{i}" for i in range(len(values))), values=values)


def labels(sizes: Sequence[int]) -> list[str]:
    return [f"c{g}" for g, size in enumerate(sizes) for _ in range(size)]


def of_differences(values: np.ndarray, clusters: Sequence[str] | None) -> Statistic:
    base = Arm(label="base", ids=tuple(map(str, range(len(values)))), values=np.zeros(len(values)))
    tuned = Arm(label="tuned", ids=base.ids, values=values)
    return paired_difference(base, tuned, clusters=clusters, level=LEVEL)


def sampled(draw: Draw, rng: np.random.Generator, sizes: Sequence[int], shared: float) -> np.ndarray:
    """Null differences [item]; ``shared`` is the part of their variance that a cluster has in common."""
    common = np.repeat(draw(rng, len(sizes)), sizes)
    return math.sqrt(shared) * common + math.sqrt(1 - shared) * draw(rng, sum(sizes))


def covers(found: Statistic, truth: float = 0.0) -> bool:
    return found.interval[0] <= truth <= found.interval[1]


def known(found: Statistic) -> bool:
    return math.isfinite(found.interval[0])


def null_pairs(runs: int) -> Iterator[Row]:
    """Paired differences without an effect: alarms at 5 %, verdicts at a sesoi of a tenth, and coverage."""
    for shape, draw in SHAPES.items():
        for n, clustered in ((30, False), (200, False), (30, True), (200, True)):
            rng = np.random.default_rng(1)
            sizes = [5] * (n // 5) if clustered else [1] * n
            clusters = labels(sizes)
            rows = [sampled(draw, rng, sizes, 0.5 * clustered) for _ in range(runs)]
            found = [of_differences(row, clusters) for row in rows]
            ignoring = [of_differences(row, None).p < 1 - LEVEL for row in rows] if clustered else []
            yield {
                "differences": shape,
                "n": n,
                "clusters of": 5 if clustered else 1,
                "false positives": np.mean([f.p < 1 - LEVEL for f in found]),
                "coverage": np.mean([covers(f) for f in found if known(f)]),
                "no interval": np.mean([not known(f) for f in found]),
                "wrongly reproduced": np.mean([judge(CLAIM, f).outcome is Outcome.REPRODUCED for f in found]),
                "clusters ignored": np.mean(ignoring) if ignoring else None,
            }


def linearised_covers(values: np.ndarray, sizes: Sequence[int]) -> bool:
    """Coverage by the common alternative: linearised variance (CV1) with the number of clusters less one."""
    groups, count = np.repeat(np.arange(len(sizes)), sizes), len(sizes)
    sums = np.bincount(groups, weights=values - values.mean())
    error = math.sqrt(count / (count - 1) * float(np.sum(sums**2))) / len(values)
    return bool(abs(values.mean()) <= float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error)


def uneven_clusters(runs: int) -> Iterator[Row]:
    """Coverage where clusters differ in size, against the linearised variance."""
    for name, sizes in SIZES.items():
        clusters = labels(sizes)
        for shared in (0.1, 0.5):
            rng = np.random.default_rng(2)
            rows = [sampled(SHAPES["normal"], rng, sizes, shared) for _ in range(runs)]
            found = [of_differences(r, clusters) for r in rows]
            yield {
                "sizes": name,
                "clusters": len(sizes),
                "effective": round(sum(sizes) ** 2 / sum(s * s for s in sizes), 1),
                "variance shared": shared,
                "coverage": np.mean([covers(f) for f in found if known(f)]),
                "no interval": np.mean([not known(f) for f in found]),
                "linearised, G - 1": np.mean([linearised_covers(r, sizes) for r in rows]),
            }


def two_samples(runs: int) -> Iterator[Row]:
    """Welch and the AUC's interval at the published table's sizes and one smaller, every item its own cluster."""
    for low_n, high_n, shift in ((44, 194, 0.0), (19, 60, 0.0), (44, 194, 0.6), (19, 60, 0.9), (10, 20, 1.0)):
        rng, truth = np.random.default_rng(3), float(stats.norm.cdf(shift / math.sqrt(2)))
        found = [
            two_sample_difference(
                arm("low", rng.normal(size=low_n)), arm("high", rng.normal(shift, size=high_n)),
                clusters=None, level=LEVEL,
            )
            for _ in range(max(1, runs // 4))
        ]  # fmt: skip
        areas = [f.details["auc_interval"] for f in found]
        yield {
            "low": low_n,
            "high": high_n,
            "effect": shift,
            "coverage of the difference": np.mean([covers(f, shift) for f in found if known(f)]),
            "no interval": np.mean([not known(f) for f in found]),
            "coverage of the AUC": np.mean([low <= truth <= high for low, high in areas if math.isfinite(low)]),
            "no AUC interval": np.mean([math.isnan(low) for low, _ in areas]),
        }


def power(runs: int) -> Iterator[Row]:
    """A planted effect, in standard deviations of the differences, judged at a sesoi of 0.1."""
    for n in (50, 200, 800):
        for effect in (0.0, 0.1, 0.2, 0.3, 0.5):
            rng = np.random.default_rng(4)
            outcomes = [judge(CLAIM, of_differences(rng.normal(effect, size=n), None)).outcome for _ in range(runs)]
            shares = {o.value: np.mean([x is o for x in outcomes]) for o in Outcome if o is not Outcome.NOT_APPLICABLE}
            yield {"n": n, "effect": effect, **shares}


def shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if isinstance(value, np.floating) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000, help="simulated comparisons per row")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    tables: dict[str, list[Row]] = {}
    for table in (null_pairs, uneven_clusters, two_samples, power):
        rows = tables[table.__name__] = list(table(options.runs))
        print(f"\n{table.__doc__}\n\n| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
        for row in rows:
            print(f"| {' | '.join(shown(v) for v in row.values())} |", flush=True)
    if options.json:
        print(json.dumps({"runs": options.runs, **tables}))


if __name__ == "__main__":
    main()
