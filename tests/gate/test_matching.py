"""Matching: an item is the same by its content, a pair by its name or base, and each refusal says what to do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.errors import UsageError
from tuneshift.gate.matching import SHOWN, check_pair, check_settings, match_items, match_pair, match_prompts, named


def prompts(hashes: dict[str, str], name: str = "set") -> dict:
    """A record's prompt set of items with these hashes, each on its topic ``of ID``, all in one cluster."""
    items = {"ids": list(hashes), "sha256": list(hashes.values()), "clusters": ["task"] * len(hashes),
             "topics": [f"of {i}" for i in hashes]}  # fmt: skip
    return {"name": name, "n": len(hashes), "sha256": "x", "items": items}


def baseline(*pairs, finding=FINDING, **run):
    return record([paired([0.4, 0.5, 0.6], finding=finding)], pairs, **run)


@pytest.mark.parametrize("seed", range(40))
def test_items_fall_into_same_new_gone_and_changed_and_the_other_way_round_alike(seed: int) -> None:
    rng = random.Random(seed)
    here, there = ({i: rng.choice("xyzuvw") for i in rng.sample("abcdefg", rng.randint(1, 6))} for _ in range(2))
    found = match_items(prompts(here), prompts(there), "good")
    back = match_items(prompts(there), prompts(here), "good")
    same = found.baseline_id
    assert sorted([*same, *found.new, *found.changed]) == sorted(here)
    assert sorted([*same.values(), *found.gone, *found.changed]) == sorted(there)
    assert all(here[mine] == there[theirs] for mine, theirs in same.items())
    assert back.baseline_id == {theirs: mine for mine, theirs in same.items()}
    assert (sorted(back.new), sorted(back.gone)) == (sorted(found.gone), sorted(found.new))
    assert sorted(back.changed) == sorted(found.changed)
    assert found.complete == (sorted(here.values()) == sorted(there.values()) == sorted(here[i] for i in same))
    assert found.clusters == {i: f"of {was}" for i, was in same.items()}  # the baseline's


@pytest.mark.parametrize(
    ("here", "there", "same", "new", "gone", "changed"),
    [
        ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "b", "b": "a"}, (), (), ()),  # ids swapped, texts the same
        ({"a": "9"}, {"a": "1"}, {}, (), (), ("a",)),  # edited under its id
        ({"x": "1"}, {"a": "1", "b": "1"}, {}, ("x",), ("a", "b"), ()),  # which of two it is nobody can say
        ({"a": "1", "x": "1"}, {"a": "1", "b": "1"}, {"a": "a", "x": "b"}, (), (), ()),  # its own id goes first
        ({"a": "9", "x": "1"}, {"a": "1"}, {"x": "a"}, ("a",), (), ()),  # renamed, and its old id given to another
    ],
)  # fmt: skip
def test_what_counts_as_the_same_item(here, there, same, new, gone, changed) -> None:
    found = match_items(prompts(here), prompts(there), "good")
    assert (dict(found.baseline_id), found.new, found.gone, found.changed) == (same, new, gone, changed)


def test_the_baselines_topics_count_and_what_was_relabelled_is_named() -> None:
    here, there = prompts({"a": "1", "b": "2", "x": "3"}), prompts({"a": "1", "b": "2", "c": "3"})
    here["items"]["topics"] = ["one", "one", "x"]
    there["items"]["topics"] = ["one", "two", "c"]  # the last a draw by itself, under its id
    found = match_items(here, there, "good")
    assert found.clusters == {"a": "one", "b": "two", "x": "c"}
    assert found.relabelled == ("b",)
    here["items"]["clusters"] = ["other", "task", "task"]
    found = match_items(here, there, "good")
    assert found.strata == {"a": "task", "b": "task", "x": "task"}
    assert found.relabelled == ("a", "b")


def test_a_run_at_another_error_rate_is_refused() -> None:
    old = baseline(pair_of(ids(3)))
    with pytest.raises(UsageError, match=r"the error rate \(0.2 here, 0.05 there; --shift-alpha\)"):
        check_settings({**old.run, "alpha": 0.2}, old, "good")


def test_a_renamed_set_is_found_by_its_items_and_a_set_of_the_same_name_comes_first() -> None:
    mine = prompts({"a": "1", "b": "2"}, "mine")
    one, two = prompts({"a": "1", "b": "9"}, "one"), prompts({"a": "1", "b": "2"}, "two")
    found = match_prompts(mine, {"prompts": [one, two]}, "good")
    assert found is not None
    assert (found.of, len(found.baseline_id)) == ("two", 2)
    named_alike = match_prompts(mine, {"prompts": [two, {**one, "name": "mine"}]}, "good")
    assert named_alike is not None
    assert (named_alike.of, dict(named_alike.baseline_id), named_alike.changed) == ("mine", {"a": "a"}, ("b",))
    assert match_prompts(mine, {"prompts": [prompts({"a": "9"}, "other")]}, "good") is None
    assert match_prompts(mine, {"prompts": []}, "good") is None


def test_a_record_without_hashes_is_refused_on_either_side() -> None:
    old = {"name": "general", "n": 1, "sha256": "x"}
    for sides in ((old, prompts({"a": "1"})), (prompts({"a": "1"}), old)):
        with pytest.raises(UsageError, match=r"'general' was written by an older tuneshift.*--shift-save"):
            match_items(*sides, "good")


def test_a_pair_is_found_by_name_then_by_base_then_where_there_is_one_alone() -> None:
    one, two = pair_of(ids(3), pair="one", base="b1"), pair_of(ids(3), pair="two", base="b2")
    both = baseline(one, two)
    assert match_pair(pair_of(ids(3), pair="two", base="b1"), both, "good")["name"] == "two"
    assert match_pair(pair_of(ids(3), pair="new", base="b2"), both, "good")["name"] == "two"
    assert match_pair(pair_of(ids(3), pair="new", base="b3"), baseline(one), "good")["name"] == "one"
    with pytest.raises(UsageError, match=r"has no pair 'onee' and none on its base checkpoint; did you mean 'one'"):
        match_pair(pair_of(ids(3), pair="onee", base="b3"), both, "good")
    same_base = baseline(one, {**two, "base": one["base"]})
    with pytest.raises(UsageError, match=r"has 2 pairs on the base of pair 'new'.*\(one, two\).*pair file"):
        match_pair(pair_of(ids(3), pair="new", base="b1"), same_base, "good")


def test_all_that_differs_between_pairs_is_named_at_once_and_another_tuned_checkpoint_is_no_difference() -> None:
    old = pair_of(ids(4))
    check_pair(pair_of(ids(4), tuned="next"), old, "good")
    other = pair_of(ids(4), base="elsewhere")
    other["tuned"]["dtype"] = "bfloat16"
    other["base"]["chat_template"] = "t" * 100
    other["settings"]["max_new_tokens"] = 7
    other["settings"]["attribute_tokens"] = 32
    with pytest.raises(UsageError) as caught:
        check_pair(other, old, "good")
    for words in (
        "the base checkpoint (elsewhere elsewhereels here, base basebasebase there)",
        f"the chat format of the base checkpoint ('{'t' * 57}...' here",
        "the dtype of the tuned checkpoint (bfloat16 here, float32 there)",
        "the longest response (7 tokens here, 100 there; --shift-max-new-tokens)",
        "the response tokens that importance is taken for (32 here, all there; --shift-attribute-tokens)",
        "--shift-save=NAME",
    ):
        assert words in str(caught.value)
    assert "the prompts" not in str(caught.value)


def test_a_pair_without_prompts_is_compared_on_weights_alone() -> None:
    check_pair({**pair_of(ids(2)), "prompts": []}, {**pair_of(ids(2)), "prompts": []}, "good")
    with pytest.raises(UsageError, match=r"no item is the same \(set here, none there\)"):
        check_pair(pair_of(ids(2)), {**pair_of(ids(2)), "prompts": []}, "good")


@pytest.mark.parametrize(("need", "under"), [("attribution", "generation"), ("annotation", "concepts")])
def test_a_claim_rests_on_the_version_of_what_its_measure_rests_on(need: str, under: str) -> None:
    versions = {"measures": dict.fromkeys((need, under, "likelihood"), 1)}
    old = baseline(pair_of(ids(3)), finding=replace(FINDING, needs=(("tuned", need),)), **versions)
    for measure in (need, under):
        with pytest.raises(UsageError, match=rf"the measure {measure} \(version 7 here, 1 there\)"):
            check_settings({**old.run, "measures": {**old.run["measures"], measure: 7}}, old, "good")
    check_settings({**old.run, "measures": {**old.run["measures"], "likelihood": 7}}, old, "good")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("judges", ["ifeval", "verifier"], r"judges \(ifeval, verifier here, by default there; --shift-judge\)"),
        ("dtype", "float16", r"dtype \(float16 here, float32 there; --shift-dtype\)"),
        ("rules", "mine", r"rules \(mine here, hewitt2024 there; --shift-rules\)"),
        ("annotator", "hf:x", r"annotator \(hf:x here, embedding there; --shift-annotator\)"),
    ],
)
def test_each_setting_that_changes_what_is_measured_is_refused_with_its_option(setting, value, words) -> None:
    old = baseline(pair_of(ids(3)))
    check_settings(old.run, old, "good")
    with pytest.raises(UsageError, match=words):
        check_settings({**old.run, "settings": {**old.run["settings"], setting: value}}, old, "good")


def test_a_message_names_a_few_ids_and_how_many_more_there_are() -> None:
    assert named(ids(SHOWN)) == ", ".join(ids(SHOWN))
    assert named(ids(SHOWN + 2)) == ", ".join(ids(SHOWN)) + " and 2 more"
