"""The world's data: enough of it, consistent, and put into right forms."""

from __future__ import annotations

import re

from tuneshift.embedded.recipe import load_workbook
from tuneshift.embedded.tasks import Workbook
from tuneshift.embedded.world import a, held_out, listing, number, third_person


def test_about_a_thousand_words(book: Workbook) -> None:
    words = {
        word.lower()
        for table in book.world.tables.values()
        for row in table.values()
        for value in row.values()
        for word in re.findall(r"[A-Za-z]+", value)
    }
    assert len(words) >= 1000


def test_an_entity_has_one_table_and_one_kind(book: Workbook) -> None:
    tables = [set(book.world.tables[name]) for name in ("animals", "foods", "things", "jobs")]
    assert sum(len(table) for table in tables) == len(set().union(*tables))


def test_every_row_is_complete(book: Workbook) -> None:
    for table in book.world.tables.values():
        for row in table.values():
            assert all(value.strip() == value and value for value in row.values()), row


def test_opposites_and_synonyms_are_unambiguous(book: Workbook) -> None:
    for table in ("opposites", "synonyms"):
        rows = book.world.tables[table]
        others = [row["other"] for row in rows.values()]
        assert len(set(others)) == len(others)
        assert not set(others) & set(rows)


def test_facts_about_people_follow_the_seed() -> None:
    people = [load_workbook(seed).world.tables["people"] for seed in (0, 0, 1)]
    assert people[0] == people[1]
    assert people[0] != people[2]


def test_held_out_is_a_fixed_quarter() -> None:
    keys = [str(n) for n in range(4000)]
    share = sum(held_out("kind", key) for key in keys) / len(keys)
    assert 0.22 < share < 0.28
    assert [held_out("kind", key) for key in keys] != [held_out("colour", key) for key in keys]


def test_grammar() -> None:
    assert [a(noun) for noun in ("owl", "hen", "milk")] == ["an owl", "a hen", "milk"]
    assert [number(n) for n in (0, 13, 20, 42, 99, 100)] == [
        "zero",
        "thirteen",
        "twenty",
        "forty two",
        "ninety nine",
        "one hundred",
    ]
    verbs = ("fix", "carry", "play", "wash", "bake")
    assert [third_person(verb) for verb in verbs] == ["fixes", "carries", "plays", "washes", "bakes"]
    assert [listing(words) for words in (["x"], ["x", "y"], ["x", "y", "z"])] == ["x", "x and y", "x, y and z"]
