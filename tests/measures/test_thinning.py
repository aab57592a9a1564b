"""Which response tokens are attributed where not all are."""

from __future__ import annotations

import numpy as np
import pytest

from tuneshift.measures.attribution.thinning import evenly_spaced, narrowed, thinned
from tuneshift.store.evidence import EvidenceItem


@pytest.mark.parametrize(("length", "count"), [(6, 5), (33, 32), (100, 32), (300, 7), (11, 5), (2000, 1999)])
def test_places_are_the_middles_of_equal_parts(length: int, count: int):
    places = evenly_spaced(length, count)
    parts = np.arange(count + 1) * length / count
    assert len(places) == count
    assert (np.diff(places) > 0).all()
    assert ((parts[:-1] - 1 < places) & (places < parts[1:])).all()
    middles = (parts[:-1] + parts[1:]) / 2
    assert (np.abs(places + 0.5 - middles) <= 0.5).all()


@pytest.mark.parametrize("count", [5, 9, None])
def test_a_response_that_is_no_longer_is_taken_whole(count: int | None):
    assert evenly_spaced(5, count).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(0, count).tolist() == []


def test_each_fifth_of_the_places_lies_in_its_fifth_of_the_response():
    for length in range(50, 301):
        for count in (16, 32, 50):
            for k, part in enumerate(np.array_split(evenly_spaced(length, count), 5)):
                assert (np.abs((part + 0.5) / length - (k + 0.5) / 5) <= 0.1 + 0.8 / count + 0.5 / length).all()


def item(name: str = "importance", tokens: int = 12) -> EvidenceItem:
    cells = np.arange(3 * tokens, dtype=np.float32).reshape(3, tokens)
    texts = [f"t{i}" for i in range(tokens)]
    return EvidenceItem(id="a", arrays={name: cells}, values={"response_tokens": texts, "response": "whole"})


@pytest.mark.parametrize("name", ["importance", "levels"])
def test_importance_and_recorded_levels_keep_the_columns_of_the_places(name: str):
    whole, found = item(name), thinned(item(name), 5)
    places = evenly_spaced(12, 5)
    assert np.array_equal(found.arrays[name], whole.arrays[name][:, places])
    assert found.values["response_tokens"] == [f"t{i}" for i in places]
    assert (found.values["thinned_from"], found.values["response"]) == (12, "whole")


def test_what_is_thinned_or_left_out_or_short_stays_as_it_is():
    short, out = item(tokens=5), EvidenceItem(id="a", left_out="too long")
    assert thinned(short, 5) is short
    assert thinned(out, 5) is out
    once = thinned(item(), 5)
    assert narrowed(once, {"attributed_response_tokens": 5}) is once
    assert narrowed(item(), {"attributed_response_tokens": "all"}).arrays["importance"].shape == (3, 12)
