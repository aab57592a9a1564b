"""Which finding notices how much damage: a model against copies of its own weights, rounded or with noise.

    python benchmarks/ladder.py [--model CHECKPOINT] [--prompts SET ...] [--out DIR] [--rungs NAME ...]

Without options: the embedded tuned model on its 348 held-out prompts and on the sixth of them that is each task's first
wording. `benchmarks/damage.py` says what the rungs are. Prints a Markdown table: the copy less the original, with the
interval at the claim's level; bold where that interval lies below 0. The evidence is kept in the store: a second call
only decides again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from damage import rungs, write_damaged

from tuneshift import run
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.resources import fixture

FINDINGS = (
    "damage.references_stay_likely", "damage.text_stays_likely", "hewitt2024.ranking_survives_tuning",
    "hewitt2024.tuned_follows",
)  # fmt: skip
LONGEST = 40
"""Tokens of a response of the embedded family; its longest reference has 30."""


def main() -> None:
    """Make the copies, ask, print."""
    parser = argparse.ArgumentParser(description="Which finding notices how much damage.")
    parser.add_argument("--model", help="default: the embedded tuned model")
    parser.add_argument("--prompts", nargs="+", help="default: micro-heldout, and a sixth of it")
    parser.add_argument("--out", type=Path, default=Path("build/ladder"), metavar="DIR")
    parser.add_argument("--rungs", nargs="+", choices=list(rungs()), default=list(rungs()))
    given = parser.parse_args()
    source = Path(given.model) if given.model else fixture("models/micro/instruct")
    folder = inspect(ModelRef(name="original", model=str(source))).folder
    sets = given.prompts or [write_sixth(given.out), "micro-heldout"]
    print("| copy | prompts | " + " | ".join(f"`{finding}`" for finding in FINDINGS) + " |")
    print("| --- | --- |" + " --- |" * len(FINDINGS))
    for name in given.rungs:
        write_damaged(folder, given.out / name, rungs()[name])
        for prompts in sets:
            more = {} if given.model else {"max_new_tokens": LONGEST}
            found = run(str(source), str(given.out / name), findings=list(FINDINGS), prompts=[prompts], **more)
            cells = {claim["finding"]: cell(claim) for claim in found.claims}
            shown = " | ".join(cells[finding] for finding in FINDINGS)
            print(f"| {name} | {Path(prompts).stem} | {shown} |", flush=True)


def write_sixth(folder: Path) -> str:
    """The first wording of each of the held-out exercises' tasks."""
    rows = [json.loads(line) for line in fixture("prompts/micro-heldout.jsonl").read_text("utf-8").splitlines()]
    firsts = {row["cluster"]: row for row in reversed(rows)}
    path = folder / "micro-sixth.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(lines(row for row in rows if firsts[row["cluster"]] is row), encoding="utf-8")
    return str(path)


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def cell(claim: Mapping[str, Any]) -> str:
    """Effect and interval, bold where a loss is shown."""
    if claim["effect"] is None:
        return str(claim["reason"])
    low, high = claim["interval"]
    if low is None:
        return f"{claim['effect']:+.3f} [–]"
    text = f"{claim['effect']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if high < 0 else text


if __name__ == "__main__":
    main()
