"""What pytest-xdist's workers cost: CPU seconds of `pytest suites -n 2` on four pairs against one process, all stored.

    python benchmarks/workers.py [--repeats 3] [--store DIR] [--finding GLOB ...] [--json]

Both run in turn, in fresh processes, with the plugins of pytest alone that a run needs (tuneshift, xdist): each further
plugin is loaded by every process. The first run, not counted, measures what is missing in the store (minutes; a
temporary folder unless ``--store`` names one that is kept).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {
    "instruct": ("base", "instruct"),
    "response": ("base", "response-only"),
    "single": ("base", "single-task"),
    "far": ("base-far", "instruct"),
}
PAIR = """[pairs.{name}]
base = "embedded:micro/{base}"
tuned = "embedded:micro/{tuned}"
prompts = ["micro-heldout"]
max_new_tokens = 40
word_vectors = "embedded:micro/words.npz"
vocabulary = "embedded:micro/words.npz"
"""


def cpu_seconds(folder: Path, environment: dict[str, str], *arguments: str) -> float:
    """User and system time of one run and of all processes that it started. Raises RuntimeError where it broke."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "suites", "-q", f"--pairs={folder / 'pairs.toml'}",
               f"--shift-out={folder / 'results'}", "-p", "tuneshift", *arguments]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if run.returncode not in (0, 1):  # 1: a finding is contradicted
        raise RuntimeError(
            f"{' '.join(command)} ended with {run.returncode}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--store", type=Path, help="evidence store to use and keep (default: a temporary one)")
    parser.add_argument("--finding", action="append", default=[], help="only findings of this id; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [PAIR.format(name=pair, base=base, tuned=tuned) for pair, (base, tuned) in PAIRS.items()]
        (folder / "pairs.toml").write_text("\n".join(texts))
        store = folder / "store" if asked.store is None else asked.store.absolute()
        environment = {**os.environ, "TUNESHIFT_STORE": str(store), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        chosen = [f"--finding={finding}" for finding in asked.finding]
        cpu_seconds(folder, environment, *chosen)
        rows = [
            {
                "one process": cpu_seconds(folder, environment, *chosen),
                "two workers": cpu_seconds(folder, environment, *chosen, "-p", "xdist.plugin", "-n", "2"),
            }
            for _ in range(asked.repeats)
        ]
    ratio = statistics.median(row["two workers"] / row["one process"] for row in rows)
    if asked.json:
        print(json.dumps({"rows": rows, "ratio": ratio}))
        return
    print("| one process, CPU s | -n 2, CPU s | ratio |\n| --- | --- | --- |")
    for row in rows:
        one, two = row["one process"], row["two workers"]
        print(f"| {one:.1f} | {two:.1f} | {two / one:.2f} |")
    print(f"\nmedian ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
