"""False alarms of the permutation within matched sets where there are few controls to choose from.

    python benchmarks/matched.py [--runs 400] [--json]

Cases differ from controls in nothing but their likeness, one standard deviation higher on average, which moves every
value as much as noise does: the worst case for matching, as if frequency alone made heads gain verbs. Cells are cases
by controls; the shipped lists have 38 instruction verbs among some 3,000, the embedded family 12 among 60. A minute or
two of one core.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np

from tuneshift.statistics.matched import matched_difference
from tuneshift.statistics.statistic import Arm

CELLS = ((12, 20), (12, 60), (12, 400), (20, 40), (34, 100), (38, 160), (38, 3000), (60, 60), (60, 120), (60, 240))
LEVELS = (0.95, 0.975)


def false_alarms(cases: int, controls: int, runs: int) -> list[float]:
    """Share of seeded runs whose interval leaves out 0, by level; of those that have an interval."""
    rng = np.random.default_rng([cases, controls])
    missed, made = np.zeros(len(LEVELS)), np.zeros(len(LEVELS))
    for seed in range(runs):
        likeness = np.concatenate([rng.normal(0, 1, controls), rng.normal(1, 0.7, cases)])
        values = rng.normal(size=len(likeness)) + likeness
        ids = tuple(f"v{k}" for k in range(len(likeness)))
        found = matched_difference(
            Arm(label="controls", ids=ids[:controls], values=values[:controls]),
            Arm(label="cases", ids=ids[controls:], values=values[controls:]),
            likeness=dict(zip(ids, likeness.tolist(), strict=True)), level=0.95, seed=seed,
        )  # fmt: skip
        for k, level in enumerate(LEVELS):
            low, high = found.intervals.at(level)
            if math.isfinite(low):
                made[k] += 1
                missed[k] += not low <= 0 <= high
    return [float(share) for share in missed / np.maximum(made, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="seeded runs a cell (default: 400)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    asked = parser.parse_args()
    rows = {cell: false_alarms(*cell, asked.runs) for cell in CELLS}
    if asked.json:
        print(json.dumps([{"cases": c, "controls": k, "alarms": found} for (c, k), found in rows.items()]))
        return
    print("| cases | controls | alarms at 5 % | at 2.5 % |\n| ---: | ---: | ---: | ---: |")
    for (cases, controls), (first, second) in rows.items():
        errors = [100 * math.sqrt(share * (1 - share) / asked.runs) for share in (first, second)]
        print(
            f"| {cases} | {controls} | {100 * first:.1f} ± {errors[0]:.1f} % | {100 * second:.1f} ± {errors[1]:.1f} % |"
        )


if __name__ == "__main__":
    main()
