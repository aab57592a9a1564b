"""Claims of one run beside the same claims of another: rows of a Markdown table for those that differ.

    python benchmarks/changed_verdicts.py OLD/run.json NEW/run.json [OLD/run.json NEW/run.json ...]

Records are read as JSON: an earlier version may have written intervals of a kind that this one does not know.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tuneshift.plain import Json


def main() -> None:
    """Print the rows, those whose verdict changed first."""
    parser = argparse.ArgumentParser(description="Claims of one run beside the same claims of another.")
    parser.add_argument("records", nargs="+", type=Path, metavar="RUN.json", help="old and new, in turns")
    given = parser.parse_args().records
    rows = [row for old, new in zip(given[::2], given[1::2], strict=True) for row in changed(old, new)]
    print("| pair, group | finding | before | now |\n| --- | --- | --- | --- |")
    for _, text in sorted(rows, key=lambda row: not row[0]):
        print(text)


def changed(old: Path, new: Path) -> Iterator[tuple[bool, str]]:
    """Whether the verdict is another, and the row, of each claim whose numbers or verdict are."""
    before, now = (
        {(c["pair"], c["group"], c["finding"]): c for c in json.loads(path.read_bytes())["claims"]}
        for path in (old, new)
    )
    for key in (key for key in now if key in before):
        pair, group, finding = key
        texts = [_told(side[key]) for side in (before, now)]
        if texts[0] != texts[1]:
            on = pair if group == "all" else f"{pair}, {group}"
            verdict = before[key]["verdict"] != now[key]["verdict"]
            yield verdict, f"| {on} | `{finding}` | {texts[0]} | {texts[1]} |"


def _told(claim: Mapping[str, Json]) -> str:
    if claim["effect"] is None:
        return str(claim["verdict"])
    ends = ", ".join("–" if end is None else f"{end:+.3f}" for end in claim["interval"])
    units = f" in {claim['clusters']}" if claim["clusters"] < claim["n"] else ""
    return f"{claim['verdict']}: {claim['effect']:+.3f} [{ends}], n = {claim['n']}{units}"


if __name__ == "__main__":
    main()
