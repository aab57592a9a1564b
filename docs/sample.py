"""README's sample output, from a run of the suites on the embedded pair.

    python docs/sample.py            run them and write it
    python docs/sample.py --check    run them and exit 1 where README says otherwise

What stands between the two marks of README.md is made here: the lines of `pytest suites` from the table of verdicts on,
of the findings in `SHOWN`. The run reads the evidence store and fills it.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "README.md"
BEGIN, END = "<!-- sample output, from a run -->\n", "<!-- end of sample output -->\n"
SHOWN = (
    "hewitt2024.base_ranks_responses",
    "hewitt2024.rules_yield_following",
    "hewitt2024.single_task_yields_following",
    "wu2023.density_marks_followed",
    "wu2023.instruction_density_rises",
    "wu2023.instructions_stay_important",
    "wu2023.prompt_middle_recovers",
)
WIDTH = "140"
"""Columns in which every claim takes one line."""
ENDS = ("record: ", "summary: ", "report: ")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?")
TOLERANCE = 0.02
"""Of a number, or five thousandths: other processors round otherwise, and a level is a step."""


def output() -> str:
    """What `pytest suites` says on the embedded pair, run outside of any project. Stops where it is not green."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", str(ROOT / "suites"), "--color=no", "-p", "no:cacheprovider"]
        environment = {**os.environ, "COLUMNS": WIDTH}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pytest suites exits {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return done.stdout


def sample(said: str) -> str:
    """The lines that README shows of a run's output, indented as code. Stops where a finding has no row."""
    lines = said.rstrip("\n").split("\n")
    first = next(k for k, line in enumerate(lines) if " tuneshift verdicts " in line)
    rows = {line.split()[0]: line for line in lines[first + 2 :] if line}
    missing = [finding for finding in SHOWN if finding not in rows]
    if missing:
        raise SystemExit(f"the run has no row of {', '.join(missing)}")
    ends = [line for line in lines if line.startswith(ENDS)]
    shown = [*lines[first : first + 2], *(rows[finding] for finding in SHOWN), "...", *ends, lines[-1]]
    return "\n" + "".join(f"    {line}\n" for line in shown) + "\n"


def held(page: str) -> str:
    """The sample as a page has it."""
    _, found, rest = page.partition(BEGIN)
    made, closed, _ = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"README.md has nothing between {BEGIN.strip()} and {END.strip()}")
    return made


def differences(old: str, new: str) -> list[str]:
    """Lines of two samples that do not say the same, the new one's: other words, or numbers beyond the tolerance.

    The width of columns and the time that the run took are no difference.
    """
    first, second = (made.strip("\n").split("\n") for made in (old, new))
    if len(first) != len(second):
        return second
    return [new for one, new in zip(first, second, strict=True) if not _same(one, new)]


def _same(one: str, other: str) -> bool:
    words = [NUMBER.sub("0", re.sub(r"in [\d.]+s.*", "", line.strip("= "))).split() for line in (one, other)]
    if words[0] != words[1]:
        return False
    numbers = [[float(x) for x in NUMBER.findall(re.sub(r"in [\d.]+s.*", "", line))] for line in (one, other)]
    return all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=0.005) for a, b in zip(*numbers, strict=True))


def main() -> int:
    """Write or check the sample."""
    parser = argparse.ArgumentParser(description="README's sample output, from a run on the embedded pair.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where README says otherwise")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    old, new = held(page), sample(output())
    if arguments.check:
        for line in differences(old, new):
            print(f"README.md says otherwise: {line.strip()}")
        return int(bool(differences(old, new)))
    PAGE.write_text(page.replace(BEGIN + old + END, BEGIN + new + END), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
