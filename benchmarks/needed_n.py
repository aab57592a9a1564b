"""Does the named number of items decide? A first set that did not decide names a number; a fresh set of it is drawn.

    python benchmarks/needed_n.py [--runs 20000] [--json]

Normal differences of standard deviation 1; a claim `greater` (or `equivalent`) at a sesoi of 0.1. "Decided" is the
share of fresh sets of the named size whose interval lies on one side of the sesoi (of `equivalent`: within, or wholly
past an end), among first sets that did not decide and that named a number of at most 100,000; the goal is 75 to 85 %.
"More" is the share that named none. "Today" is the number that power at the observed effect gives (up to a million).
The row "spread" draws the true effect anew for each run, evenly over 8 standard errors of the first set around the
sesoi, which is what assurance averages over; the other rows hold one truth fixed, which nothing observed can promise
for. Monte-Carlo errors beside the shares. A few minutes of one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from tuneshift.statistics.assurance import LARGEST, Seen, beyond_bounds, needed_items
from tuneshift.statistics.power import interval_power, smallest_n

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
SESOI = 0.1
LEVELS = {"95 %": 0.95, "alpha/10": 0.995}


def ends(mean: Floats, error: Floats, n: Floats | float, level: float, units: float = 1.0) -> tuple[Floats, Floats]:
    reach = stdtrit(np.asarray(n) * units - 1, (1 + level) / 2) * error
    return mean - reach, mean + reach


def decided(low: Floats, high: Floats, direction: str) -> npt.NDArray[np.bool_]:
    if direction == "greater":
        return np.asarray((low > SESOI) | (high < SESOI))
    return np.asarray((low > SESOI) | (high < -SESOI) | ((low > -SESOI) & (high < SESOI)))


def today(effect: float, error: float, n: int, direction: str, level: float, units: float) -> int | None:
    """Power at the observed effect, as `n_needed` has it."""
    if direction == "greater":
        distances = [abs(effect - SESOI)]
    else:
        distances = [abs(effect - SESOI), abs(effect + SESOI)]
        distances = [min(distances)] if abs(effect) > SESOI else distances

    def power_at(m: int) -> float:
        return interval_power(distances, error=error * math.sqrt(n / m), freedom=m * units - 1, level=level)

    return smallest_n(power_at, power=0.8, fewest=math.ceil(10 / units))


def rows(runs: int, seed: int = 0) -> Iterator[Row]:
    for direction in ("greater", "equivalent"):
        for level_name, level in LEVELS.items():
            for n, size in ((20, 1), (50, 1), (200, 1), (200, 5)):
                # `equivalent` is decided at coverage 2 level - 1 (two one-sided tests).
                coverage = level if direction == "greater" else 2 * level - 1
                design = 1.0 if size == 1 else 1 + (size - 1) * 0.5
                units, scale = 1 / size, math.sqrt(design)
                error = scale / math.sqrt(n)
                centre = SESOI if direction == "greater" else 0.0
                for truth in ("spread", 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
                    rng = np.random.default_rng([seed, n, size])
                    theta = (centre + error * rng.uniform(-4, 4, runs) if truth == "spread"
                             else np.full(runs, float(truth)))  # fmt: skip
                    freedom = n * units - 1
                    mean = theta + error * rng.normal(size=runs)
                    seen = error * np.sqrt(rng.chisquare(freedom, runs) / freedom)
                    open_ = ~decided(*ends(mean, seen, n, coverage, units), direction)
                    named = _named(mean[open_], seen[open_], n, units, direction, coverage)
                    for rule, numbers in named.items():
                        asked = np.isfinite(numbers)
                        m, t = numbers[asked], theta[open_][asked]
                        fresh_error = scale / np.sqrt(m)
                        fresh = t + fresh_error * rng.normal(size=len(m))
                        fresh_seen = fresh_error * np.sqrt(rng.chisquare(m * units - 1) / (m * units - 1))
                        hit = decided(*ends(fresh, fresh_seen, m, coverage, units), direction)
                        share = float(np.mean(hit)) if len(hit) else math.nan
                        yield {
                            "claim": direction, "level": level_name, "n": n, "clusters of": size, "truth": truth,
                            "undecided": float(open_.mean()), "rule": rule,
                            "median named": float(np.median(m)) if asked.any() else math.nan,
                            "more": float(1 - asked.mean()) if open_.any() else math.nan, "decided": share,
                            "Monte-Carlo error": math.sqrt(share * (1 - share) / max(1, len(hit))),
                        }  # fmt: skip


def _named(mean: Floats, seen: Floats, n: int, units: float, direction: str, level: float) -> dict[str, Floats]:
    """The number that each rule names; infinite for none. By interpolation: it depends on effect and error only, for
    one bound on their ratio, and computing it for each run would take hours."""
    found = {}
    fewest = math.ceil(10 / units)
    if direction == "greater":
        for rule in ("assurance", "today"):
            z, table = _one_bound(rule, n, units, level, fewest)
            found[rule] = _interpolated(np.abs(mean - SESOI) / seen, z, table)
        return found
    # Two bounds: over effect / sesoi and error / sesoi.
    for rule in ("assurance", "today"):
        ratio, share, logs = _two_bounds(rule, n, units, level, fewest)
        place = np.clip(np.interp(np.log(seen / SESOI), np.log(ratio), np.arange(len(ratio))), 0, len(ratio) - 1.001)
        low = place.astype(int)
        across = np.clip(np.abs(mean) / SESOI / share[1], 0, len(share) - 1.001)
        left = across.astype(int)
        p, q = place - low, across - left
        number = np.exp((1 - p) * ((1 - q) * logs[low, left] + q * logs[low, left + 1])
                        + p * ((1 - q) * logs[low + 1, left] + q * logs[low + 1, left + 1]))  # fmt: skip
        found[rule] = np.where(number > (LARGEST if rule == "assurance" else 1e6), np.inf, np.ceil(number))
    return found


@functools.cache
def _one_bound(rule: str, n: int, units: float, level: float, fewest: int) -> tuple[Floats, Floats]:
    """Distances from the bound in standard errors, and the number named at each."""
    z = np.linspace(0, 7, 71)
    return z, np.array([_one(rule, SESOI + x * 0.1, 0.1, n, units, "greater", level, fewest) for x in z])


@functools.cache
def _two_bounds(rule: str, n: int, units: float, level: float, fewest: int) -> tuple[Floats, Floats, Floats]:
    """Errors and effects in sesois, and the logarithm of the number named at each, [error, effect]."""
    scale = 1.0 if units == 1 else math.sqrt(3)
    ratio = scale / math.sqrt(n) / SESOI * np.exp(np.linspace(-0.6, 0.6, 5))
    share = np.linspace(0, 30 * scale / math.sqrt(n) + 6, 49)
    table = [[_one(rule, SESOI * x, SESOI * r, n, units, "equivalent", level, fewest) for x in share] for r in ratio]
    return ratio, share, np.log(np.minimum(np.array(table), 1e9))


def _interpolated(at: Floats, z: Floats, table: Floats) -> Floats:
    number = np.exp(np.interp(at, z, np.log(np.minimum(table, 1e9))))
    return np.where(number > 1e8, np.inf, np.ceil(number))


def _one(
    rule: str, effect: float, error: float, n: int, units: float, direction: str, level: float, fewest: int
) -> float:
    if rule == "today":
        number = today(effect, error, n, direction, level, units)
    else:
        seen = Seen(effect=effect, error=error, freedom=n * units - 1, items=n, units_per_item=units)
        rule_of = beyond_bounds(SESOI, direction, level)  # type: ignore[arg-type]
        number = needed_items(seen, rule_of, interval=(math.nan, math.nan), fewest=fewest).assured
    return math.inf if number is None else float(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = list(rows(options.runs))
    columns = list(found[0])
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in found:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
