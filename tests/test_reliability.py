"""docs/reliability.md says what the campaign, the list of architectures and the list of mutants hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from campaign import KINDS, OUTCOMES, table
from hand_mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ARCHITECTURES = json.loads((ROOT / "tests" / "nightly" / "architectures.json").read_text(encoding="utf-8"))


def rows() -> dict[str, list[int]]:
    """The page's tables: the numbers of each row by its name."""
    found = re.findall(r"^\| ([^|]+) \| ([\d,]+(?: \| [\d,]+)+) \|$", PAGE, re.MULTILINE)
    return {name: [int(n.replace(",", "")) for n in numbers.split(" | ")] for name, numbers in found}


def test_the_last_campaign_lost_nothing_silently_or_loudly() -> None:
    for key, kind in KINDS.items():
        tries, *wrong = rows()[kind.name]
        assert tries >= {"kills": 100, "mutants": 1000}.get(key, 30)
        assert wrong == [0] * len(OUTCOMES)


def test_a_campaigns_table_counts_what_went_wrong() -> None:
    tries = [{"kind": "kills", "outcome": o} for o in ("sound", "lost", "silent", "silent", "traceback")]
    assert table(tries).splitlines()[2].endswith("| 5 | 1 | 2 | 1 |")


def test_the_architectures_are_counted() -> None:
    assert f"of {len(ARCHITECTURES)} architectures" in PAGE
    for measure in ("generation", "likelihood", "attribution", "relations", "concepts"):
        said = Counter(a.get("outcomes", {}).get(measure, "works").partition(":")[0] for a in ARCHITECTURES.values())
        assert rows()[measure] == [said["works"], said["not applicable"], said["refused"]]


def test_the_mutants_picked_by_hand_are_counted() -> None:
    assert f"{len(MUTANTS)} mistakes" in PAGE
