"""docs/real-pairs.md, from the run records of benchmarks/real/run.py."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tuneshift import load_run

HERE = Path(__file__).resolve().parent
PUBLISHED: Mapping[str, Mapping[str, str]] = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))
MISSING = "Not done yet: `make real` goes on where it stopped."

Claim = Mapping[str, Any]


def write_page(work: Path, path: Path) -> None:
    """Write the page from what the work folder has; it says of each part that is not done that it is not."""
    records = {file.parent.name: load_run(file) for file in sorted(work.glob("runs/*/run.json"))}
    claims = [claim for record in records.values() for claim in record.claims]
    siblings = {file.parent.name: json.loads(file.read_bytes()) for file in sorted(work.glob("*/tuning.json"))}
    slots = {
        "siblings": table(("sibling", "examples", "learned tokens", "epochs", "first loss", "last loss"),
                          [sibling_cells(name, card) for name, card in siblings.items()]),
        "findings": table(("finding", "published", "ours", "verdict"),
                          sorted(finding_cells(claim) for claim in claims if claim["pair"] == "gemma-270m")),
        "published": "\n".join(f"- `{name}`: {said['place']}." for name, said in PUBLISHED.items()),
        "ladder": table(("copy", "finding", "effect", "verdict"),
                        [ladder_cells(claim) for claim in claims if claim["pair"].startswith("smollm2-")]),
        "cost": table(("stage", "s"), [(name, f"{record.run['duration_s']:.0f}") for name, record in records.items()]),
    }  # fmt: skip
    path.write_text((HERE / "page.md").read_text(encoding="utf-8").format(**slots), encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, or that there is nothing to show."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    names = tuple(head)
    return "\n".join([f"| {' | '.join(names)} |", "|" + " --- |" * len(names), *lines]) if lines else MISSING


def sibling_cells(name: str, card: Mapping[str, Any]) -> tuple[str, ...]:
    """A sibling's row, from the card that `tuneshift tune` writes."""
    counts = (f"{card['examples']:,}", f"{card['learned']:,}", str(card["plan"]["epochs"]))
    return (name, *counts, f"{card['first_loss']:.3f}", f"{card['final_loss']:.3f}")


def finding_cells(claim: Claim) -> tuple[str, ...]:
    said = PUBLISHED.get(claim["finding"])
    return (f"`{claim['finding']}`", said["value"] if said else "–", effect_text(claim), claim["verdict"])


def ladder_cells(claim: Claim) -> tuple[str, ...]:
    copy = claim["pair"].removeprefix("smollm2-")
    return (copy, f"`{claim['finding']}`", effect_text(claim), claim["verdict"])


def effect_text(claim: Claim) -> str:
    """Effect, interval and n, or why there is none."""
    if claim["effect"] is None:
        return str(claim["reason"])
    ends = ", ".join("–" if end is None else f"{end:+.3f}" for end in claim["interval"])
    units = f" in {claim['clusters']}" if claim["clusters"] < claim["n"] else ""
    said = claim["details"]
    levels = f" ({said['base']:.2f} to {said['tuned']:.2f})" if {"base", "tuned"} <= said.keys() else ""
    return f"{claim['effect']:+.3f} [{ends}] {claim['unit']}{levels}, n = {claim['n']}{units}"
