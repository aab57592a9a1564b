"""How often drift that favours no kind of verb makes an interval clear zero, for docs/verb-relations.md.

    python benchmarks/verb_drift.py [--pairs 200]

Pairs of tiny checkpoints whose heads relate verbs drawn anew (tests/quantities/test_verb_relations.py).
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from tuneshift.quantities.verb_relations import gain_over_all_verbs, gain_over_heads, gain_slope, instruction_verbs_gain

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "quantities"))
import test_verb_relations as planted

QUANTITIES = {
    "gain over verbs": instruction_verbs_gain(),
    "gain over all verbs": gain_over_all_verbs(),
    "gain over heads": gain_over_heads(),
    "slope": gain_slope(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="simulated pairs (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    hits: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        words = planted.word_space(Path(folder))
        for k in range(given.pairs):
            base, tuned = (planted.measure(planted.model_of(1000 + 2 * k + side), words) for side in (0, 1))
            view = planted.view_of(base, tuned)
            for name, quantity in QUANTITIES.items():
                low, high = quantity(view).interval
                hits[name, "none"] += math.isnan(low)
                hits[name, "above"] += low > 0
                hits[name, "below"] += high < 0
    print(f"{given.pairs} pairs, 95 % intervals: share wholly above 0, wholly below, and without one")
    for name in QUANTITIES:
        shares = " ".join(f"{hits[name, side] / given.pairs:.1%}" for side in ("above", "below", "none"))
        print(f"{name}: {shares}")


if __name__ == "__main__":
    main()
