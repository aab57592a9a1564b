"""The micro world: tables of words and facts, and the small grammar that puts them into sentences."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

Row = Mapping[str, str]

UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
UNCOUNTED = frozenset(
    (
        "spinach",
        "cocoa",
        "coffee",
        "lemonade",
        "milk",
        "tea",
        "cider",
        "butter",
        "cream",
        "ham",
        "bacon",
        "liquorice",
        "fudge",
    )
)
PETS = ("cat", "dog", "rabbit", "parrot", "mouse", "tortoise", "goat", "duck", "hen", "donkey")


@dataclass(frozen=True, kw_only=True)
class World:
    """Tables by name; each is its rows by entity, in file order. ``people`` carry facts drawn once from ``seed``."""

    tables: Mapping[str, Mapping[str, Row]]

    @cached_property
    def nouns(self) -> Mapping[str, Row]:
        """Every animal, food, thing and job by name."""
        return {**self.tables["jobs"], **self.tables["things"], **self.tables["foods"], **self.tables["animals"]}

    @cached_property
    def kinds(self) -> Mapping[str, tuple[str, ...]]:
        """Names by kind, as "bird" or "tool"."""
        found: dict[str, list[str]] = {}
        for table in ("animals", "foods", "things"):
            for name, row in self.tables[table].items():
                found.setdefault(row["kind"], []).append(name)
        return {kind: tuple(names) for kind, names in found.items()}

    def names(self, table: str) -> tuple[str, ...]:
        """Entities of a table in file order."""
        return tuple(self.tables[table])

    def values(self, table: str, field: str) -> tuple[str, ...]:
        """Different values of a field, sorted."""
        return tuple(sorted({row[field] for row in self.tables[table].values()}))


def load_world(path: Path, *, seed: int) -> World:
    """The world of a TOML file of tables, with the people's facts drawn by ``seed``."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    tables: dict[str, dict[str, Row]] = {}
    for name, table in data.items():
        rows = (line.split("|") for line in table["rows"].strip().splitlines())
        tables[name] = {row[0]: dict(zip(table["fields"], row, strict=True)) for row in rows}
    for name in ("animals", "foods", "things", "jobs"):
        tables[name] = {key: {**row, "plural": row["plural"] or key + "s"} for key, row in tables[name].items()}
    rng = Random(f"people-{seed}")
    towns, jobs = list(tables["towns"]), list(tables["jobs"])
    foods = [name for name, row in tables["foods"].items() if row["kind"] in ("fruit", "vegetable")]
    tables["people"] = {
        name: {
            **row,
            "town": rng.choice(towns),
            "job": rng.choice(jobs),
            "pet": rng.choice(PETS),
            "food": rng.choice(foods),
            "colour": rng.choice(list(tables["colours"])),
        }
        for name, row in tables["people"].items()
    }
    return World(tables=tables)


def held_out(task: str, key: str, *, share: int = 4) -> bool:
    """Whether a key of a task is kept from every sibling's tuning: one in ``share``, by hash."""
    return hashlib.sha256(f"{task}/{key}".encode()).digest()[0] % share == 0


def a(noun: str) -> str:
    """The noun with its indefinite article; a noun for something uncounted stays alone."""
    if noun in UNCOUNTED:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def cap(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]


def number(n: int) -> str:
    """Words of a number from 0 to 109."""
    if n < 20:
        return UNITS[n]
    if n >= 100:
        return "one hundred" + (f" and {UNITS[n - 100]}" if n > 100 else "")
    tens, unit = divmod(n, 10)
    return TENS[tens - 2] + (f" {UNITS[unit]}" if unit else "")


def third_person(verb: str) -> str:
    """Present tense after he or she."""
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def listing(words: list[str] | tuple[str, ...]) -> str:
    """Words joined by commas, the last by "and"."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"
