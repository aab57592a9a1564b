"""The shipped prompt set ``general``: every line, its spans, clusters and rules, and the counts in its README."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest

from tuneshift.prompts.prompt import PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.verifiers import verify
from tuneshift.resources import fixture

LAYOUTS = ("before", "after", "around", "alone")
FIELDS = {"id", "task", "layout", "cluster", "topic", "prompt", "instruction_spans", "reference"}
SHINGLE = 8  # shorter runs of words recur by chance ("answer with the letter and one short reason")

Row = dict[str, Any]

ROWS: list[Row] = [
    json.loads(line) for line in fixture("prompts/general.jsonl").read_text(encoding="utf-8").split("\n") if line
]
BY_ID = {row["id"]: row for row in ROWS}
RULED = [row for row in ROWS if "verify" in row]


def by_id(row: Row) -> str:
    return str(row["id"])


def correct(row: Row, response: str) -> bool:
    return verify(row["verify"], response, ended=True).correct


def context(row: Row) -> str:
    """The prompt without its instruction."""
    edges = [0, *(edge for span in row["instruction_spans"] for edge in span), len(row["prompt"])]
    return " ".join(row["prompt"][start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)).strip()


def span_faults(row: Row) -> list[str]:
    """What is wrong with the spans of a row: bounds, order, white space at the edges, agreement with the layout."""
    text, spans, layout = row["prompt"], row["instruction_spans"], row["layout"]
    faults = [f"{span} is outside or empty" for span in spans if not 0 <= span[0] < span[1] <= len(text)]
    faults += [f"{a} and {b} overlap or are out of order" for a, b in pairwise(spans) if a[1] >= b[0]]
    faults += [f"white space at an edge of {[a, b]}" for a, b in spans if text[a:b] != text[a:b].strip()]
    at_start, at_end = spans[0][0] == 0, spans[-1][1] == len(text)
    places = {
        "before": (1, True, False),
        "after": (1, False, True),
        "around": (2, True, True),
        "alone": (1, True, True),
    }
    if (len(spans), at_start, at_end) != places[layout]:
        faults.append(f"{len(spans)} spans, at start {at_start}, at end {at_end}: not {layout}")
    if (layout == "alone") != (not context(row)):
        faults.append(f"layout {layout} with the context {context(row)!r}")
    return faults


@pytest.mark.parametrize("row", ROWS, ids=by_id)
def test_a_line_has_its_fields_and_spans_that_agree_with_its_layout(row: Row) -> None:
    assert set(row) - {"verify"} == FIELDS
    assert re.fullmatch(rf"general-{row['task']}-\d\d", row["id"])
    assert span_faults(row) == []
    assert 10 <= len(row["prompt"].split()) <= 150
    assert 1 <= len(row["reference"].split()) <= 120
    for text in (row["prompt"], row["reference"]):
        assert text == text.strip()
        assert not set("⟦⟧").intersection(text)  # the marks that spans were drawn with


@pytest.mark.parametrize(
    ("layout", "spans", "fault"),
    [
        ("before", [[0, 4]], None),
        ("before", [[0, 5]], "white space"),
        ("after", [[0, 4]], "not after"),
        ("alone", [[0, 4]], "not alone"),
        ("around", [[0, 4], [9, 12]], None),
        ("around", [[0, 4], [2, 12]], "overlap"),
        ("around", [[9, 12], [0, 4]], "overlap"),
        ("after", [[9, 13]], "outside"),
        ("before", [[0, 0]], "empty"),
    ],
)
def test_span_faults_are_seen(layout: str, spans: list[list[int]], fault: str | None) -> None:
    faults = span_faults({"prompt": "Sort b and a", "instruction_spans": spans, "layout": layout})
    assert (faults == []) if fault is None else any(fault in found for found in faults)


def test_the_set_is_large_and_varied_enough() -> None:
    assert len(ROWS) >= 210
    tasks = Counter(row["task"] for row in ROWS)
    assert len(tasks) >= 14
    assert min(tasks.values()) >= 10
    layouts = Counter(row["layout"] for row in ROWS)
    assert set(layouts) == set(LAYOUTS)
    assert min(layouts[layout] for layout in ("before", "after", "around")) >= 45
    assert len(RULED) >= 60


def test_ids_and_prompts_are_unique_and_sorted() -> None:
    assert [row["id"] for row in ROWS] == sorted(BY_ID)
    assert len({" ".join(row["prompt"].casefold().split()) for row in ROWS}) == len(ROWS)


def test_the_package_reads_the_set_by_its_name() -> None:
    prompts = load_prompts(PromptSource(path="general"), pair=None).prompts
    assert [prompt.id for prompt in prompts] == [row["id"] for row in ROWS]
    assert [[list(span) for span in prompt.instruction_spans] for prompt in prompts] == [
        row["instruction_spans"] for row in ROWS
    ]
    assert {prompt.group for prompt in prompts} == {"all"}


def test_the_file_is_written_as_the_readme_says() -> None:
    raw = fixture("prompts/general.jsonl").read_bytes().decode()
    assert raw == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def test_a_cluster_is_a_task() -> None:
    assert all(row["cluster"] == row["task"] for row in ROWS)


def test_topics_have_up_to_four_prompts_and_single_prompts_their_own_id() -> None:
    sizes = Counter(row["topic"] for row in ROWS)
    assert max(sizes.values()) <= 4
    assert all(row["topic"] == row["id"] for row in ROWS if sizes[row["topic"]] == 1)
    assert not [topic for topic, size in sizes.items() if size > 1 and topic in BY_ID]
    shared = sum(size for size in sizes.values() if size > 1)
    assert 0.25 <= shared / len(ROWS) <= 0.4


def test_prompts_that_share_text_share_a_topic() -> None:
    topics: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in ROWS:
        words = re.findall(r"\w+", row["prompt"].casefold())
        for start in range(len(words) - SHINGLE + 1):
            topics[tuple(words[start : start + SHINGLE])].add(row["topic"])
    assert {words: found for words, found in topics.items() if len(found) > 1} == {}


def test_offsets_are_put_to_the_proof_by_characters_outside_ascii() -> None:
    until_instruction = [row["prompt"][: row["instruction_spans"][-1][1]] for row in ROWS]
    assert sum(not text.isascii() for text in until_instruction) >= 20
    # beyond the basic plane, where UTF-16 offsets differ from code points
    assert any(max(map(ord, text)) > 0xFFFF for text in until_instruction)


@pytest.mark.parametrize("row", RULED, ids=by_id)
def test_a_rule_accepts_the_reference_and_neither_silence_nor_an_echo(row: Row) -> None:
    assert correct(row, row["reference"])
    assert not correct(row, "")
    assert not correct(row, row["prompt"])


def test_a_rule_refuses_nearly_all_answers_to_other_prompts() -> None:
    lax = {}
    for row in RULED:
        others = [other for other in ROWS if other["task"] != row["task"] and other["topic"] != row["topic"]]
        passed = [other["id"] for other in others if correct(row, other["reference"])]
        if len(passed) > 0.1 * len(others):
            lax[row["id"]] = passed
    assert lax == {}


RESPONSES = [
    ("answer-02", "The new tram is 15 minutes faster than the bus.", "The tram takes 19 minutes and the bus 34."),
    ("answer-05", "April had the least rain, at 39 mm.", "June, 84 mm."),
    ("answer-11", "Ravi.", "Paul"),
    ("arithmetic-03", "180 + 58.80 + 90 = 328.80, so each of them pays €65.76.", "Each pays 71.76 euros."),
    ("arithmetic-05", "$198", "$168"),
    ("arithmetic-10", "The market, at €5.50 a kilo, is 50 cents cheaper.", "The supermarket, by 6.5 euros."),
    ("classify-01", "This is a bug.", "This is a bug, a billing problem and a feature request."),
    ("classify-04", "This is spam!", "Not spam"),
    ("classify-10", "Stone: marble, granite\nWood: willow, pine, oak\nMetal: silver, copper", "All are hard."),
    ("classify-12", "It is an IndexError, since names has two entries.", "Type error: names[2] is not a string."),
    (
        "code-01",
        "def f(xs):\n    seen = set()\n    return [x for x in xs if not (x in seen or seen.add(x))]",
        "return xs",
    ),
    ("code-07", "^[A-Z]{2}-[0-9]{4}[a-z]?$", "[A-Z]+-[0-9]+"),
    ("compare-12", "Café Süd is 20 cents cheaper.", "Café Nord is 20 cents cheaper."),
    ("convert-04", "The shop opens at 08:30 and closes at 18:45.", "It opens at 8:30 and closes at 19:15."),
    ("convert-09", "2024-03-07, 2023-11-23, 2025-01-01", "2024-07-03, 2023-11-23, 2025-01-01"),
    (
        "correct-grammar-02",
        "It’s a shame that the dog hurt its paw; they’re going to the vet tomorrow.",
        "Its a shame.",
    ),
    ("correct-grammar-12", "Sentence (2), because it is possessive.", "1"),
    ("extract-04", "The total rent is 1050 euros, the deposit 1780 euros.", "1050 euros rent and 2100 euros deposit."),
    ("extract-12", "0151-496-0733", "The number is 0151 496 0744."),
    ("sentiment-02", "1", "4"),
    ("sentiment-03", "The comment is mixed.", "negative"),
    ("sentiment-08", "Unfriendly: 'I will not remind you again.'", "The message is friendly."),
    ("sort-03", "1/4 < 0.405 < 0.45 < 0.5 < 5/8", "0.5, 0.45, 5/8, 0.405, 1/4"),
    ("sort-04", "(b), (d), (a), (e), (c)", "(a), (b), (c), (d), (e)"),
    ("sort-12", "1. Mercury\n2. Venus\n3. Mars\n4. Jupiter", "Mars, Mercury, Jupiter, Venus"),
    ("summarize-04", "Line 7 reaches the hospital on Monday. It cost 212 million euros.", "Line 7 opens. Good."),
    (
        "summarize-08",
        "They picked the fire station, as it is free and has a roof.",
        "The park lost to the fire station.",
    ),
    ("title-09", "(A) Saving water in the garden", "(C) Birds in winter"),
    ("translate-01", "Où est la gare ? Nous sommes pressés : notre train part dans dix minutes.", "Où est le bus ?"),
    ("translate-10", "Brot, Butter, Apfel, Käse, Messer.", "Brot, Butter, Käse, Apfel, Messer"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), RESPONSES, ids=[name for name, _, _ in RESPONSES])
def test_a_rule_accepts_another_right_answer_and_refuses_a_wrong_one(name: str, right: str, wrong: str) -> None:
    row = BY_ID[f"general-{name}"]
    assert correct(row, right)
    assert not correct(row, wrong)


def test_the_counts_in_the_readme_are_those_of_the_file() -> None:
    readme = fixture("prompts/README.md").read_text(encoding="utf-8")
    expected = {}
    for task in [*sorted({row["task"] for row in ROWS}), "all"]:
        rows = [row for row in ROWS if task in (row["task"], "all")]
        layouts = Counter(row["layout"] for row in rows)
        expected[task] = [*(layouts[name] for name in LAYOUTS), len(rows), sum("verify" in row for row in rows)]
    lines = re.findall(r"(?m)^\| ([\w-]+) \| ((?:\d+ \| ){5}\d+) \|$", readme)
    assert {task: [int(count) for count in counts.split(" | ")] for task, counts in lines} == expected
    sizes = Counter(row["topic"] for row in ROWS)
    several = [size for size in sizes.values() if size > 1]
    beyond = sum(not row["prompt"][: row["instruction_spans"][-1][1]].isascii() for row in ROWS)
    for sentence in (
        f"holds {len(ROWS)} prompts in {len(expected) - 1} task types",
        f"{len(sizes)} topics, {len(several)} of them with 2 to 4 prompts, which hold {sum(several)} prompts.",
        f"{beyond} prompts have a character outside ASCII",
    ):
        assert sentence in readme


def test_plain_text_is_four_passages_of_each_kind_each_a_draw_of_its_own() -> None:
    passages = load_prompts(PromptSource(path="plain-text"), pair=None).prompts
    assert Counter(p.fields["task"] for p in passages) == dict.fromkeys({p.fields["task"] for p in passages}, 4)
    assert (len(passages), len({p.unit for p in passages}), len({p.prompt for p in passages})) == (48, 48, 48)
    assert all(p.instruction_spans == ((0, len(p.prompt)),) and p.reference is None for p in passages)
    lengths = [len(p.prompt.split()) for p in passages]
    assert (min(lengths), max(lengths)) == (48, 59)  # as its README says
