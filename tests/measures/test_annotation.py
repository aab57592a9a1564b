"""Annotations as evidence: what is stored of a layer, what is left out, and an annotator that is down."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tuneshift.annotators.base import Label
from tuneshift.checkpoints.refs import Layer
from tuneshift.errors import EndpointError, MeasureError
from tuneshift.measures import annotation as module
from tuneshift.measures.annotation import TASK_COLUMNS, annotation, label_arrays
from tuneshift.store.evidence import EvidenceItem

SOURCES = {"annotator": "stand-in", "word_vectors": "none"}
IDENTITY = {"annotator": "stand-in", "version": 1}


def concepts(*lists):
    return EvidenceItem(id="whatever", values={"words": [list(words) for words in lists]})


@pytest.fixture
def stand_in(monkeypatch):
    """Make ``make_annotator`` give an annotator with this rule (words, seed) -> label."""

    def use(rule):
        annotator = SimpleNamespace(
            identity=IDENTITY,
            seeds=(0, 1),
            notes=lambda: ["never says coding"],
            annotate=lambda lists, seed: [rule(words, seed) for words in lists],
        )
        monkeypatch.setattr(module, "make_annotator", lambda spec, word_vectors: annotator)
        return annotation(None, {"annotator": IDENTITY, "seeds": [0, 1]}, SOURCES)

    return use


def test_the_columns_are_those_that_docs_and_findings_read():
    assert TASK_COLUMNS == ("writing", "coding", "math", "translation", "none")


def test_labels_are_arrays_with_the_seed_first(stand_in):
    def rule(words, seed):
        if seed == 1:
            return None
        return Label(tasks=frozenset({"coding", "math"}), level="syntax") if words == ["a"] else Label()

    (item,) = stand_in(rule)([Layer(index=3)], [concepts(["a"], ["b"], ["c"])])
    assert item.id == "layer.3"
    assert item.left_out is None
    assert item.arrays["tasks"].dtype == np.uint8
    assert item.arrays["levels"].dtype == np.int8
    none, failed = [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]
    assert item.arrays["tasks"].tolist() == [[[0, 1, 1, 0, 0], none, none], [failed] * 3]
    assert item.arrays["levels"].tolist() == [[2, -1, -1], [-1, -1, -1]]
    assert item.values == {"annotator": IDENTITY, "seeds": [0, 1], "failed": 3, "notes": ["never says coding"]}


@pytest.mark.parametrize(
    ("level", "code"), [("phonology", 0), ("morphology", 1), ("syntax", 2), ("semantics", 3), (None, -1)]
)
def test_levels_have_their_codes(level, code):
    assert label_arrays([[Label(level=level)]])["levels"].tolist() == [[code]]


def test_no_concepts_keep_the_shape():
    found = label_arrays([[], []])
    assert found["tasks"].shape == (2, 0, 5)
    assert found["levels"].shape == (2, 0)


def test_layers_follow_the_units_and_a_left_out_one_keeps_its_reason(stand_in):
    take = stand_in(lambda words, seed: Label(level="semantics"))
    left_out = EvidenceItem(id="layer.5", left_out="its weights are not finite")
    units = [Layer(index=i) for i in (5, 2, 9)]
    items = list(take(units, [left_out, concepts(["x"]), None]))
    assert [item.id for item in items] == ["layer.5", "layer.2", "layer.9"]
    assert [item.left_out for item in items] == [
        "its weights are not finite", None, "no concepts were taken from it",
    ]  # fmt: skip
    assert not items[0].arrays
    assert items[1].arrays["levels"].tolist() == [[3], [3]]


def test_an_annotator_that_goes_down_leaves_the_layers_before_it(stand_in):
    def rule(words, seed):
        if words == ["b"]:
            raise EndpointError("Model 'm' at host/v1 cannot be reached. 3 of 9 answers are kept in /x.")
        return Label()

    found = stand_in(rule)([Layer(index=0), Layer(index=1)], [concepts(["a"]), concepts(["b"])])
    assert next(found).id == "layer.0"
    with pytest.raises(
        MeasureError, match=r"layer\.1: its concepts could not be annotated\. Model 'm' at host/v1 cannot"
    ):
        next(found)


def test_an_annotator_other_than_the_keys_is_refused(stand_in):
    stand_in(lambda words, seed: Label())
    with pytest.raises(MeasureError, match="not the one that the evidence is keyed by"):
        annotation(None, {"annotator": {"annotator": "another"}, "seeds": [0]}, SOURCES)


def test_the_offline_annotator_through_the_measure():
    from tuneshift.annotators.registry import make_annotator

    sources = {"annotator": "embedding", "word_vectors": "embedded:micro/words.npz"}
    identity = make_annotator(*sources.values()).identity
    take = annotation(None, {"annotator": dict(identity), "seeds": [0]}, sources)
    rhymes, modals = ["cat", "hat", "bat", "rat", "mat", "sat"], ["can", "may", "must", "should", "would", "might"]
    (item,) = take([Layer(index=0)], [concepts(rhymes, modals)])
    assert item.arrays["levels"].tolist() == [[0, 2]]
    assert item.arrays["tasks"].tolist() == [[[0, 0, 0, 0, 1]] * 2]
    assert item.values["failed"] == 0
