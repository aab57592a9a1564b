"""Which verdicts change between two ways of sharing an error rate: Holm over a run, and families of fixed size.

    python benchmarks/families.py RUN.json [RUN.json ...]

Reads run records and measures nothing: each claim carries its intervals at every level. "Holm" decides all claims of
the record together (1979), as tuneshift did before families; "family" is the record's own verdict, at
1 - alpha / family_size whatever else was claimed. Levels are 1 less the share of alpha. Claims that do not apply are
left out. The table is that of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuneshift.claims.finding import Finding
from tuneshift.claims.verdict import judge
from tuneshift.run_record import read_record
from tuneshift.statistics.intervals import intervals_of
from tuneshift.statistics.statistic import Statistic

FINDING = ("title", "claim", "source", "direction", "unit", "sesoi", "sesoi_reason", "how", "items")


def holm_levels(p: Sequence[float | None], alpha: float) -> list[float]:
    """1 less the share at which Holm's procedure tests each claim; those behind the first that fails keep its share."""
    known = np.array([1.0 if x is None else x for x in p])
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    shares = alpha / np.arange(len(known), 0, -1)
    failed = np.flatnonzero(ordered > shares)
    if len(failed):
        shares[failed[0] :] = shares[failed[0]]
    levels = np.empty_like(shares)
    levels[order] = 1 - shares[np.searchsorted(ordered, ordered, side="left")]
    return [float(level) for level in levels]


def verdict_at(claim: Mapping[str, Any], level: float) -> str:
    """The verdict on a claim at another level."""
    intervals = intervals_of(claim["intervals"])
    known = {name: math.nan if claim[name] is None else claim[name] for name in ("effect", "p", "standard_error")}
    statistic = Statistic(
        **known, interval=intervals.at(level), level=intervals.coverage(level), n=claim["n"],
        clusters=claim["clusters"], method="", seed=None, arms=(), intervals=intervals,
    )  # fmt: skip
    finding = Finding(id=claim["finding"], needs=(), **{name: claim[name] for name in FINDING})
    return judge(finding, statistic).outcome.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", metavar="RUN.json")
    print("| pair, group | finding | Holm: level | verdict | family: level | verdict | |\n|" + " --- |" * 7)
    for path in parser.parse_args().records:
        record = read_record(path)
        alpha = float(record.run["alpha"])
        claims = [claim for claim in record.claims if claim["verdict"] != "not_applicable"]
        for claim, level in zip(claims, holm_levels([c["p_decides"] for c in claims], alpha), strict=True):
            on = claim["pair"] if claim["group"] == "all" else f"{claim['pair']}, {claim['group']}"
            before, now = verdict_at(claim, level), claim["verdict"]
            now_level = 1 - alpha / claim["family_size"]
            changed = "changed" if before != now else ""
            print(f"| {on} | `{claim['finding']}` | {level:.5f} | {before} | {now_level:.5f} | {now} | {changed} |")


if __name__ == "__main__":
    main()
