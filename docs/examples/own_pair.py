"""One finding on a pair of your own: run it, and say what came out.

    python docs/examples/own_pair.py --base PATH_OR_ID --tuned PATH_OR_ID [--finding ID] [--prompts SET] [--out DIR]

Without a pair: the embedded one. Exit code 0 for reproduced, 1 for another verdict, 2 where nothing was decided.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneshift import TuneshiftError, run, write_report


def told(claim: Mapping[str, Any]) -> str:
    """A claim in words; None stands for a number that there is none of."""
    head = f"{claim['finding']} on {claim['pair']}: {claim['verdict']}"
    if claim["effect"] is None:
        return f"{head}\n  {claim['reason']}"
    low, high = claim["interval"]
    interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
    lines = [head, f"  effect {claim['effect']:.3f} {interval} {claim['unit']}, n = {claim['n']}"]
    if claim["clusters"] < claim["n"]:
        lines[-1] += f" in {claim['clusters']} clusters"
    if claim["verdict"] == "inconclusive":
        lines.append(f"  {claim['reason']}")
    return "\n".join(lines)


def main() -> int:
    """Run, tell, keep."""
    parser = argparse.ArgumentParser(description="One finding on a pair of your own.")
    parser.add_argument("--base", metavar="CHECKPOINT", help="folder, hub id or embedded:FAMILY/NAME")
    parser.add_argument("--tuned", metavar="CHECKPOINT", help="its tuned checkpoint")
    parser.add_argument("--finding", default="hewitt2024.tuned_follows", metavar="ID", help="default: %(default)s")
    parser.add_argument("--prompts", action="append", metavar="SET", help="JSONL file or shipped set")
    parser.add_argument("--out", type=Path, default=Path("tuneshift-results"), metavar="DIR")
    arguments = parser.parse_args()

    try:
        found = run(arguments.base, arguments.tuned, findings=arguments.finding, prompts=arguments.prompts)
        found.save(arguments.out / "run.json")
        report = write_report(found, arguments.out / "report.html")
    except TuneshiftError as error:
        print(f"own_pair.py: {error}", file=sys.stderr)
        return 2
    for claim in found.claims:
        print(told(claim))
    print(f"  report: {report}")
    return 0 if all(claim["verdict"] == "reproduced" for claim in found.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
