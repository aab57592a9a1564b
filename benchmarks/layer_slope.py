"""How often does a slope over layers, or over heads, clear zero where there is none? For docs/verb-relations.md.

    python benchmarks/layer_slope.py [--runs 2000]

First table: a value a layer, errors a first-order autoregression without slope; false alarms at 5 % and at 2.5 %, the
error rate of `wu2023.lower_layers_gain_most`, of a plain regression on the layers' quarters and of
`autocorrelated.series_slope`; "reach" is the median distance from effect to interval's end at 97.5 %, per quarter, in
standard deviations of a layer's error, and "plain" what a regression claims it to be. Second: heads as the units, as
the finding had it before, 32 layers of 32 heads whose scores share part of their variance within a layer. Shares with
their Monte-Carlo errors; 80 layers have a quarter of the runs, the second table a tenth. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import numpy.typing as npt
from interval_levels import weighted_slope
from scipy.special import stdtr, stdtrit

from tuneshift.statistics.autocorrelated import series_slope
from tuneshift.statistics.estimates import jackknife_statistic
from tuneshift.statistics.intervals import fewest_clusters

Floats = npt.NDArray[np.float64]
LEVEL = 0.975
LAYERS = (4, 6, 7, 8, 12, 24, 30, 80)


def autoregression(rng: np.random.Generator, runs: int, layers: int, correlation: float) -> Floats:
    """Stationary errors of variance 1, [run, layer]."""
    values = rng.normal(size=(runs, layers))
    for k in range(1, layers):
        values[:, k] = correlation * values[:, k - 1] + math.sqrt(1 - correlation**2) * values[:, k]
    return values


def quarters(layers: int) -> Floats:
    return np.arange(layers) * 4.0 // layers


def plain(x: Floats, y: Floats) -> tuple[float, float]:
    """p of a regression over independent layers, and its interval's reach."""
    (slope, start), n = np.polyfit(x, y, 1), len(x)
    error = math.sqrt(float(np.sum((y - start - slope * x) ** 2)) / (n - 2) / float(np.sum((x - x.mean()) ** 2)))
    return float(2 * stdtr(n - 2, -abs(slope) / error)), float(stdtrit(n - 2, (1 + LEVEL) / 2)) * error


def share(hits: list[bool]) -> str:
    rate = float(np.mean(hits))
    return f"{rate:.1%} ± {math.sqrt(rate * (1 - rate) / len(hits)):.1%}"


def over_layers(runs: int) -> None:
    print("| layers | autocorrelation | plain at 5 % | ours at 5 % | plain at 2.5 % | ours at 2.5 % | plain | reach |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for layers in LAYERS:
        x = quarters(layers)
        for correlation in (0.0, 0.5, 0.8):
            rng = np.random.default_rng([layers, int(10 * correlation)])
            rows = []
            for y in autoregression(rng, runs if layers < 80 else runs // 4, layers, correlation):
                found = series_slope(x, y, places=range(layers), arms=(), level=LEVEL)
                rows.append((*plain(x, y), found.p, found.interval[1] - found.effect))
            ps, reaches, ours, reach = np.array(rows).T
            cells = [share(list(p < alpha)) for alpha in (0.05, 0.025) for p in (ps, ours)]
            if fewest_clusters(LEVEL) > layers:
                cells[1] = cells[3] = "none"
            far = "none" if np.isnan(reach).all() else f"{np.median(reach):.2f}"
            print(f"| {layers} | {correlation} | {' | '.join(cells)} | {np.median(reaches):.2f} | {far} |", flush=True)


def over_heads(runs: int, layers: int = 32, heads: int = 32) -> None:
    print("\n| variance within a layer shared | heads at 5 % | layers at 5 % |\n| --- | --- | --- |")
    x = np.repeat(quarters(layers), heads)
    labels = [str(k) for k in range(layers * heads)]
    for shared in (0.0, 0.05, 0.2):
        rng, hits = np.random.default_rng(int(100 * shared)), []
        for _ in range(runs):
            common = np.repeat(rng.normal(size=layers), heads)
            y = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=layers * heads)
            before = jackknife_statistic(weighted_slope(x, y), arms=(), clusters=labels, level=0.95, span=None)
            means = y.reshape(layers, heads).mean(axis=1)
            now = series_slope(quarters(layers), means, places=range(layers), arms=(), level=0.95)
            hits.append((before.p < 0.05, now.p < 0.05))
        print(f"| {shared} | {' | '.join(share(list(column)) for column in zip(*hits, strict=True))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated series a row (default: %(default)s)")
    given = parser.parse_args()
    over_layers(given.runs)
    over_heads(max(1, given.runs // 10))


if __name__ == "__main__":
    main()
