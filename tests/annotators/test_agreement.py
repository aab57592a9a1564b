"""Agreement with the labelled lists: kappa by its definition, failures counted, the shipped lists as promised."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tuneshift.annotators.agreement import (
    CATEGORIES,
    LEVEL_NAMES,
    agreement,
    agreement_text,
    cached_agreement,
    kept_agreement,
    labelled_lists,
    markdown,
)
from tuneshift.annotators.base import LEVELS, TASKS, Label
from tuneshift.errors import UsageError
from tuneshift.statistics.kappa import FAILED, kappa_of


def naive_kappa(truth, answer):
    n = len(truth)
    observed = sum(a == b for a, b in zip(truth, answer, strict=True)) / n
    chance = sum(truth.count(x) * answer.count(x) for x in set(truth)) / n**2
    return (observed - chance) / (1 - chance)


@dataclass
class Fixed:
    """An annotator that gives each list a label by rule, and counts how often it is asked."""

    rule: object
    seeds: tuple = (0,)
    name: str = "fixed"
    calls: list = field(default_factory=list)

    @property
    def identity(self):
        return {"annotator": self.name}

    def annotate(self, lists, seed):
        self.calls.append(seed)
        return [self.rule(tuple(words), seed) for words in lists]

    def notes(self):
        return ["A note."]


LABELS = {item.words: item.label for item in labelled_lists()}


def truth(words, seed):
    return LABELS[words]


# the labelled lists


def test_the_shipped_lists_are_as_many_and_as_long_as_promised():
    lists = labelled_lists()
    assert len(lists) >= 220
    assert all(8 <= len(item.words) <= 20 for item in lists)
    assert all(len(set(item.words)) == len(item.words) for item in lists)
    assert len({frozenset(item.words) for item in lists}) == len(lists)


def test_every_category_and_level_is_in_both_halves():
    for half in ("calibration", "held-out"):
        chosen = [item for item in labelled_lists() if item.half == half]
        levels = Counter(item.label.level for item in chosen)
        tasks = Counter(task for item in chosen for task in (item.label.tasks or {"none"}))
        assert all(levels[level] >= 15 for level in (*LEVELS, None)), levels
        assert all(tasks[category] >= 12 for category in (*TASKS, "none")), tasks
        assert any(len(item.label.tasks) > 1 for item in chosen)


def test_near_copies_lie_in_one_half():
    # else thresholds would be fixed on what they are tested on
    lists = labelled_lists()
    for i, item in enumerate(lists):
        for other in lists[:i]:
            if len(set(item.words) & set(other.words)) >= 6:
                assert item.half == other.half, (item.id, other.id)


@pytest.mark.parametrize(
    "line",
    ["{", '{"id": "a"}', '{"id": "a", "words": ["b"], "tasks": ["cooking"], "level": null, "half": "held-out"}',
     '{"id": "a", "words": [], "tasks": [], "level": null, "half": "held-out"}',
     '{"id": "a", "words": ["b"], "tasks": [], "level": null, "half": "test"}', "[]"],
)  # fmt: skip
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "lists.jsonl"
    good = {"id": "x", "words": ["b"], "tasks": [], "level": None, "half": "held-out"}
    path.write_text(json.dumps(good) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"lists\.jsonl:2: not a labelled list"):
        labelled_lists(path)


# kappa


@pytest.mark.numerics
def test_kappa_of_a_textbook_table():
    # 20 both yes, 5 and 10 apart, 15 both no: observed 0.7, chance 0.5, kappa 0.4
    rows = ["yes"] * 25 + ["no"] * 25
    columns = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = kappa_of("x", rows, [columns], ("yes", "no"))
    assert found.kappa == pytest.approx(0.4)
    assert found.confusion == ((20, 5, 0), (10, 15, 0))
    assert found.interval[0] < 0.4 < found.interval[1]


@pytest.mark.numerics
def test_kappa_equals_its_definition_and_is_symmetric():
    rng = np.random.default_rng(1)
    names = list(LEVEL_NAMES)
    for _ in range(5):
        a = [str(x) for x in rng.choice(names, 40)]
        b = [x if rng.random() < 0.5 else str(rng.choice(names)) for x in a]
        assert kappa_of("x", a, [b], names).kappa == pytest.approx(naive_kappa(a, b))
        assert kappa_of("x", b, [a], names).kappa == pytest.approx(naive_kappa(a, b))


@pytest.mark.numerics
def test_several_seeds_are_averaged_and_their_tables_summed():
    a = ["yes", "no", "yes", "no", "yes", "no"]
    b, c = ["yes", "yes", "yes", "no", "yes", "no"], ["no", "no", "yes", "no", "no", "yes"]
    found = kappa_of("x", a, [b, c], ("yes", "no"))
    assert found.kappa == pytest.approx((naive_kappa(a, b) + naive_kappa(a, c)) / 2)
    assert np.sum(found.confusion) == 12


def test_chance_is_zero_and_one_name_alone_is_undefined():
    rng = np.random.default_rng(2)
    a, b = (["yes" if x else "no" for x in rng.random(400) < 0.5] for _ in range(2))
    low, high = kappa_of("x", a, [b], ("yes", "no")).interval
    assert low < 0 < high
    never = kappa_of("x", a, [["no"] * 400], ("yes", "no"))
    assert (never.kappa, never.interval) == (0.0, (0.0, 0.0))
    for few in (["yes", "no"], ["yes"] + ["no"] * 399):  # too few lists, and a resample in three has no other name
        assert np.isnan(kappa_of("x", few, [["no"] * len(few)], ("yes", "no")).interval).all()
    lone = kappa_of("x", ["no"] * 10, [["no"] * 10], ("yes", "no"))
    assert np.isnan(lone.kappa)
    assert lone.plain()["kappa"] is None


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'maybe' is none of yes, no, failed"):
        kappa_of("x", ["yes"], [["maybe"]], ("yes", "no"))


# agreement


def test_an_annotator_that_repeats_the_labels_agrees_entirely():
    found = agreement(Fixed(truth))
    assert [kappa.kappa for kappa in (*found.tasks, found.levels)] == [1.0] * (len(CATEGORIES) + 1)
    assert [kappa.name for kappa in found.tasks] == list(CATEGORIES)
    assert found.lists == sum(item.half == "held-out" for item in labelled_lists())
    assert found.failed == 0


@pytest.mark.numerics
def test_an_annotator_that_says_one_thing_only_has_kappa_zero():
    found = agreement(Fixed(lambda words, seed: Label(level="semantics")))
    assert found.levels.kappa == pytest.approx(0)
    assert found.tasks[0].kappa == pytest.approx(0)


def test_failures_count_as_disagreement_everywhere():
    failing = {item.words for item in labelled_lists()[::3]}
    found = agreement(Fixed(lambda words, seed: None if words in failing else LABELS[words]))
    held_out = [item for item in labelled_lists() if item.half == "held-out"]
    assert found.failed == sum(item.words in failing for item in held_out) > 0
    assert all(kappa.kappa < 0.9 for kappa in (*found.tasks, found.levels))
    assert sum(row[-1] for row in found.levels.confusion) == found.failed
    assert found.levels.columns[-1] == FAILED


def test_a_failure_is_no_agreement_that_a_task_is_absent():
    # failing on just the lists without a task must not look like saying "none of them"
    found = agreement(Fixed(lambda words, seed: LABELS[words] if LABELS[words].tasks else None))
    for kappa in (*found.tasks, found.levels):
        assert kappa.kappa < 0.9
        assert sum(row[-1] for row in kappa.confusion) == found.failed


def test_only_the_half_asked_for_is_annotated():
    asked = []
    agreement(Fixed(lambda words, seed: asked.append(words) or Label()), half="calibration")
    assert set(asked) == {item.words for item in labelled_lists() if item.half == "calibration"}
    with pytest.raises(ValueError, match="no labelled list is in the half 'none'"):
        agreement(Fixed(truth), half="none")


def test_each_seed_is_asked_and_failures_summed():
    annotator = Fixed(lambda words, seed: None if seed == 2 else LABELS[words], seeds=(0, 1, 2))
    found = agreement(annotator)
    assert annotator.calls == [0, 1, 2]
    assert found.seeds == 3
    assert found.failed == found.lists


def test_it_is_worked_out_once_per_annotator(tmp_path):
    annotator = Fixed(truth)
    first = cached_agreement(annotator, tmp_path)
    assert cached_agreement(annotator, tmp_path) == first == json.loads(json.dumps(first))
    assert len(annotator.calls) == 1
    cached_agreement(replace(annotator, name="other"), tmp_path)
    assert len(annotator.calls) == 2
    # damaged entries are worked out again
    for path in tmp_path.iterdir():
        path.write_text("{")
    assert cached_agreement(annotator, tmp_path) == first
    assert len(annotator.calls) == 3


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    assert cached_agreement(Fixed(truth), tmp_path / "file")["lists"] > 0


def test_markdown_shows_every_kappa_the_table_and_the_notes():
    text = markdown(agreement(Fixed(lambda words, seed: None if len(words) == 8 else LABELS[words])).plain())
    for name in (*CATEGORIES, "level"):
        assert f"| {name} |" in text
    assert "| labelled as | phonology | morphology | syntax | semantics | abstain | failed |" in text
    assert text.endswith("A note.\n")


def test_the_default_annotator_agrees_offline_without_word_meanings(tmp_path, monkeypatch):
    # spelling alone: the shipped MiniLM is not needed to find rhymes and affixes
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = agreement_text("embedding", "embedded:micro/words.npz")
    assert "157 labelled lists (held-out half), 0 without a label." in text
    levels = [line for line in text.splitlines() if line.startswith("| phonology |")]
    row = [int(cell) for cell in levels[0].split("|")[2:-1]]
    assert row[0] >= 0.8 * sum(row)


def test_what_was_worked_out_before_is_kept_and_asks_nobody(tmp_path):
    annotator = Fixed(truth)
    assert kept_agreement(annotator, tmp_path) is None
    assert annotator.calls == []
    found = cached_agreement(annotator, tmp_path)
    asked = len(annotator.calls)
    assert kept_agreement(annotator, tmp_path) == found
    assert len(annotator.calls) == asked
    assert kept_agreement(replace(annotator, name="another"), tmp_path) is None
    (entry,) = tmp_path.iterdir()
    entry.write_text("{")
    assert kept_agreement(annotator, tmp_path) is None
