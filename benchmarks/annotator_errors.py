"""What annotators that err say of a shift of shares, as counted and corrected for their errors.

    python benchmarks/annotator_errors.py [--runs 400]

32 layers of 300 concepts, true shares 0.2 to 0.3 and a true shift, the annotator's rates known from 157 labelled lists
(17 of the category) that are drawn anew each time. "Unchanged": share of runs whose two one-sided tests at 5 % and a
margin of 0.02 say that nothing changed; "holds": share whose 95 % interval holds the true shift (corrected only); where
the annotator's Youden index may be 0 nothing is said, "blind" is the share of these. A minute of one core.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from tuneshift.statistics.differences import equivalence, paired_difference
from tuneshift.statistics.misclassification import Youden, corrected_shift
from tuneshift.statistics.statistic import Arm

Floats = npt.NDArray[np.float64]
MARGIN, LEVEL, LAYERS, CONCEPTS = 0.02, 0.95, 32, 300
ANNOTATORS = {
    "0.28": Youden(hits=3, positives=17, false_alarms=0, negatives=140),
    "0.58": Youden(hits=10, positives=17, false_alarms=5, negatives=140),
    "0.90": Youden(hits=15, positives=17, false_alarms=1, negatives=140),
}
"""By kappa; the first and the last are the embedding annotator on `writing`, with embedded vectors and with MiniLM."""


def kappa(rates: Youden) -> float:
    total = rates.positives + rates.negatives
    given = rates.hits + rates.false_alarms
    agree = (rates.hits + rates.negatives - rates.false_alarms) / total
    chance = (rates.positives * given + rates.negatives * (total - given)) / total**2
    return (agree - chance) / (1 - chance)


def counted(rng: np.random.Generator, shares: Floats, rates: Youden) -> Floats:
    true = rng.binomial(CONCEPTS, shares)
    alarms = rng.binomial(CONCEPTS - true, 1 - rates.specificity)
    return np.asarray((rng.binomial(true, rates.sensitivity) + alarms) / CONCEPTS)


def relabelled(rng: np.random.Generator, rates: Youden) -> Youden:
    hits = rng.binomial(int(rates.positives), rates.sensitivity)
    alarms = rng.binomial(int(rates.negatives), 1 - rates.specificity)
    return Youden(hits=hits, positives=rates.positives, false_alarms=alarms, negatives=rates.negatives)


def within(interval: tuple[float, float]) -> bool:
    return interval[0] > -MARGIN and interval[1] < MARGIN


def simulate(rates: Youden, shift: float, runs: int) -> str:
    rng = np.random.default_rng(16)
    ids = tuple(map(str, range(LAYERS)))
    plain = corrected = held = blind = 0
    for _ in range(runs):
        shares = rng.uniform(0.2, 0.3, LAYERS)
        base, tuned = (
            Arm(label="", ids=ids, values=counted(rng, s, rates), span=(0.0, 1.0)) for s in (shares, shares + shift)
        )
        tested = equivalence(base, tuned, clusters=ids, level=LEVEL, margin=MARGIN)
        plain += within(tested.interval)
        errors = relabelled(rng, rates)
        if not errors.sees(LEVEL):
            blind += 1
            continue
        corrected += within(corrected_shift(tested, errors, level=LEVEL).interval)
        found = corrected_shift(paired_difference(base, tuned, clusters=ids, level=LEVEL), errors, level=LEVEL)
        held += found.interval[0] <= shift <= found.interval[1]
    seen = runs - blind
    holds = f"{held / seen:.1%}" if seen else "-"
    return f"{plain / runs:.1%} | {corrected / runs:.1%} | {holds} | {blind / runs:.1%}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=400)
    runs = options.parse_args().runs
    print("| kappa | true shift | unchanged, as counted | unchanged, corrected | holds | blind |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rates in ANNOTATORS.items():
        assert f"{kappa(rates):.2f}" == name, kappa(rates)
        for shift in (0.0, 0.01, 0.03, 0.1):
            print(f"| {name} | {shift} | {simulate(rates, shift, runs)} |", flush=True)


if __name__ == "__main__":
    main()
