"""One finding on a pair of your own: run it, read the run record, say what came out.

    python docs/examples/own_pair.py --base PATH_OR_ID --tuned PATH_OR_ID [--finding ID] [--prompts SET] [--out DIR]

Without a pair: the embedded one. Exit code 0 for reproduced, 1 for another verdict, pytest's where nothing was decided.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tuneshift.resources import data_folder


def test_of(finding: str) -> str:
    """The shipped test that decides a finding, as pytest names it."""
    known = []
    for path in sorted(data_folder("suites").glob("test_*.py")):
        for name, value in vars(import_module(f"tuneshift.suites.{path.stem}")).items():
            for mark in getattr(value, "pytestmark", ()):
                known.append(mark.args[0].id)
                if known[-1] == finding:
                    return f"{path}::{name}"
    raise SystemExit(f"no finding is called {finding!r}; there are {', '.join(known)}")


def run(arguments: argparse.Namespace) -> int:
    """The finding's test in a process of its own; pytest's exit code."""
    command = [sys.executable, "-m", "pytest", test_of(arguments.finding), "-q", "--shift-out", str(arguments.out)]
    if arguments.base or arguments.tuned:
        command += ["--base", str(arguments.base), "--tuned", str(arguments.tuned)]
    for prompts in arguments.prompts:
        command += ["--shift-prompts", prompts]
    return subprocess.run(command).returncode


def told(claim: dict[str, Any]) -> str:
    """A claim of the run record in words; null stands for a number that there is none of."""
    head = f"{claim['finding']} on {claim['pair']}: {claim['verdict']}"
    if claim["effect"] is None:
        return f"{head}\n  {claim['reason']}"
    low, high = claim["interval"]
    interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
    lines = [head, f"  effect {claim['effect']:.3f} {interval} {claim['unit']}, n = {claim['n']}"]
    if claim["verdict"] == "inconclusive":
        lines.append(f"  {claim['reason']}")
    return "\n".join(lines)


def main() -> int:
    """Run, read, tell."""
    parser = argparse.ArgumentParser(description="One finding on a pair of your own.")
    parser.add_argument("--base", metavar="CHECKPOINT", help="folder, hub id or embedded:FAMILY/NAME")
    parser.add_argument("--tuned", metavar="CHECKPOINT", help="its tuned checkpoint")
    parser.add_argument("--finding", default="hewitt2024.tuned_follows", metavar="ID", help="default: %(default)s")
    parser.add_argument("--prompts", action="append", default=[], metavar="SET", help="JSONL file or shipped set")
    parser.add_argument("--out", type=Path, default=Path("tuneshift-results"), metavar="DIR")
    arguments = parser.parse_args()
    if bool(arguments.base) != bool(arguments.tuned):
        parser.error("--base and --tuned make a pair; give both, or neither for the embedded pair")

    record = arguments.out / "run.json"
    record.unlink(missing_ok=True)  # so that a run that decides nothing is not taken for the last one
    code = run(arguments)
    if not record.exists():
        return code
    claims = json.loads(record.read_text(encoding="utf-8"))["claims"]
    for claim in claims:
        print(told(claim))
    print(f"  report: {arguments.out / 'report.html'}")
    return 0 if all(claim["verdict"] == "reproduced" for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
