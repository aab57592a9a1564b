"""Views and claims on made-up evidence: pairing, labels, lenses, what is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.claim import Claim
from tuneshift.claims.claim_record import IDENTICAL, other_paths
from tuneshift.claims.examples import chosen_prompts
from tuneshift.claims.finding import Expectation, Finding, Outcome
from tuneshift.claims.view import NotApplicable, View
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.quantities.recognition import followed_or_not, instruction_score, paired
from tuneshift.report.claims import claim_view
from tuneshift.session.console import write_summary
from tuneshift.statistics.statistic import Arm
from tuneshift.store.evidence import EvidenceItem

TEXT = "Sort it: b a"
PROMPTS = tuple(
    Prompt(
        id=f"p{i:02}",
        prompt=TEXT,
        instruction_spans=((0, 8),),
        cluster=f"c{i // 2}",
        verify={"kind": "exact", "answers": ["yes"]},
        fields={"rating": 1 + i % 3 if i != 5 else -1},
    )
    for i in range(40)
)
OFFSETS = np.array([[-1, -1], [0, 4], [5, 8], [9, 10], [11, 12]], dtype=np.int32)
HEEDED = [i // 2 % 2 == 1 for i in range(len(PROMPTS))]
"""Whole clusters: the tuned model heeds the instruction more, and follows it."""
PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
FINDING = Finding(
    id="who2024.what",
    title="t",
    claim="c",
    source="s",
    direction="greater",
    unit="score",
    sesoi=0.05,
    sesoi_reason="r",
    how="h",
    needs=(("base", "attribution"), ("tuned", "attribution")),
)


def importance(instruction: float, i: int, response: int = 6) -> np.ndarray:
    """[prompt token, response token]: template 0.1, two instruction tokens, two context tokens, with noise."""
    rng = np.random.default_rng(i)
    column = np.array([0.1, instruction, instruction, 0.9, 0.8])
    return (column[:, None] + 0.5 * rng.random((5, response))).astype(np.float32)


def items(shift: float = 0.6, left_out: tuple[str, ...] = (), own: int = 6):
    def item(role: str, need: str, prompt: Prompt, i: int) -> EvidenceItem:
        if role == "tuned" and prompt.id in left_out:
            return EvidenceItem(id=prompt.id, left_out="it does not fit the context of 9 tokens")
        if need == "generation.local":
            return EvidenceItem(
                id=prompt.id,
                arrays={"response_ids": np.zeros(own, dtype=np.int64)},
                values={"response": "yes" if HEEDED[i] else "no", "ended": True},
            )
        level = 0.3 + (shift if role == "tuned" else 0.0) + (-0.5 if role == "tuned" and not HEEDED[i] else 0.0)
        return EvidenceItem(
            id=prompt.id,
            arrays={"importance": importance(level, i), "offsets": OFFSETS},
            values={
                "tokens": ["<u>", "Sort", " it:", " b", " a"],
                "response_tokens": ["x"] * 6,
                "response": "yes",
                "ended": True,
            },
        )

    return lambda role, need: {p.id: item(role, need, p, i) for i, p in enumerate(PROMPTS)}


def claim(**changes) -> tuple[Claim, list[dict]]:
    concluded: list[dict] = []
    fields = {
        "finding": FINDING,
        "pair": PAIR,
        "prompts": PROMPTS,
        "prompt_set": "set",
        "group": "all",
        "alpha": 0.05,
        "items": items(),
        "expected": None,
        "responses": ("own response", "reference"),
        "conclude": concluded.append,
    }
    return Claim(**{**fields, **changes}), concluded


def view(**changes) -> View:
    fields = {"pair": PAIR, "prompts": PROMPTS, "items": items(), "level": 0.95, "seed": 1}
    return View(**{**fields, **changes})


SCORE = paired(instruction_score, undefined="no instruction token")


def test_a_planted_shift_is_reproduced_and_recorded_whole():
    made, concluded = claim()
    made.decide(SCORE, secondary={"again": SCORE}, strips=instruction_score)
    (record,) = concluded
    assert record["verdict"] == "reproduced"
    assert record["n"] == 40
    assert record["clusters"] == 20
    assert record["secondary"][0]["effect"] == record["effect"]
    names = [row["name"] for row in record["sensitivity"]]
    assert names == [
        "by flipping signs",
        "own response, over all prompt tokens",
        "reference",
        "reference, over all prompt tokens",
        "own response, rescaled without white space",
        "own response, the release's epsilon",
    ]
    assert set(record["details"]["largest_beyond_text"]) == {"base", "tuned"}
    strip = record["examples"][0]["models"][1]
    assert strip["tokens"] == ["<u>", "Sort", " it:", " b", " a"]
    assert strip["instruction"] == [False, True, True, False, False]
    assert strip["template"] == [True, False, False, False, False]


def test_prompts_of_a_task_are_no_independent_draws():
    """The verdict counts tasks; beside it stand the topics within them, and how much wider the variance is."""
    tasks = [f"task {k // 5}" for k in range(40)]
    members = tuple(replace(p, cluster=task, topic=p.id) for p, task in zip(PROMPTS, tasks, strict=True))
    made, concluded = claim(prompts=members)
    made.decide(SCORE)
    (record,) = concluded
    assert (record["n"], record["clusters"]) == (40, 8)
    row = next(row for row in record["sensitivity"] if row["name"] == "prompts of a cluster as independent, by topic")
    assert (row["n"], row["clusters"], row["effect"]) == (40, 40, record["effect"])
    effect = (record["standard_error"] / row["standard_error"]) ** 2
    assert row["note"] == f"design effect of the clusters {effect:.2g}"
    assert made.view.clusters == {p.id: p.cluster for p in members}
    assert replace(made.view, by_topic=True).clusters == {p.id: p.id for p in members}


def test_equal_models_reproduce_nothing():
    made, concluded = claim(items=lambda role, need: items()("base", need))
    made.decide(SCORE)
    assert concluded[0]["effect"] == 0.0
    assert concluded[0]["verdict"] != "reproduced"


@pytest.mark.parametrize(
    ("named", "verdict"),
    [
        (lambda role, need: f"digest of {need}", "not_applicable"),
        (lambda role, need: f"digest of {need} of {role}", "inconclusive"),
        (lambda role, need: None, "inconclusive"),
    ],
    ids=["one piece of evidence", "another each", "unknown"],
)
def test_a_claim_whose_roles_read_one_piece_of_evidence_has_an_effect_of_0_and_tests_nothing(named, verdict):
    one, found = claim(items=lambda role, need: items()("base", need), evidence_name=named)
    one.decide(SCORE, secondary={"again": SCORE}, readings={"another": SCORE})
    (held,) = found
    assert held["verdict"] == verdict
    assert held["effect"] == 0.0
    identical = verdict == "not_applicable"
    assert (held["reason"] == IDENTICAL) is identical
    assert (held["sensitivity"] == []) is identical
    if identical:
        assert held["p_decides"] is None
        assert held["interval"] == [0.0, 0.0]
        assert [row["effect"] for row in held["secondary"]] == [0.0]


def test_a_claim_on_one_checkpoint_is_never_one_of_identical_weights():
    alone = replace(FINDING, needs=(("tuned", "attribution"), ("tuned", "generation")))
    one, _ = claim(finding=alone, evidence_name=lambda role, need: "same")
    assert not one.identical
    three = replace(FINDING, needs=(*FINDING.needs, ("response_tuned", "attribution"), ("base", "attribution.plain")))
    for third, same in (("same", True), ("other", False)):
        names = {"response_tuned attribution": third, "base attribution.plain": "in another format"}
        one, _ = claim(finding=three, evidence_name=lambda r, n, names=names: names.get(f"{r} {n}", "same"))
        assert one.identical is same


def test_prompts_left_out_on_one_side_leave_the_pair_and_are_counted():
    made, concluded = claim(items=items(left_out=("p03", "p04")))
    made.decide(SCORE)
    assert concluded[0]["n"] == 38
    assert concluded[0]["left_out"] == {"tuned: it does not fit the context of 9 tokens": 2}
    assert concluded[0]["values"]["base"]["ids"] == concluded[0]["values"]["tuned"]["ids"]


def test_the_templates_tokens_decide_nothing():
    """A template that holds the most importance, and another one in the tuned model, changes no number of a claim."""
    full = items()

    def loud(role, need):
        found = full(role, need)
        if need == "generation.local":
            return found
        rows = {i: item.arrays["importance"].copy() for i, item in found.items()}
        for row in rows.values():
            row[0] = 50.0 if role == "tuned" else 0.0
        return {i: replace(item, arrays={**item.arrays, "importance": rows[i]}) for i, item in found.items()}

    plain, changed = claim(), claim(items=loud)
    for made in (plain, changed):
        made[0].decide(SCORE)
    first, second = plain[1][0], changed[1][0]
    assert second["values"] == first["values"]
    assert second["details"]["largest_beyond_text"] == {"base": 0.0, "tuned": 1.0}
    rows = {row["name"]: row for row in second["sensitivity"]}
    assert rows["own response, over all prompt tokens"]["effect"] != second["effect"]


def test_all_prompt_tokens_are_a_reading_only_where_there_are_others_than_the_users():
    full = items()
    plain = np.array([[0, 4], [5, 8], [9, 10], [11, 12]], dtype=np.int32)

    def bare(role, need):
        return {
            i: replace(item, arrays={"importance": item.arrays["importance"][1:], "offsets": plain},
                       values={**item.values, "tokens": item.values["tokens"][1:]})
            for i, item in full(role, need).items()
        }  # fmt: skip

    made, concluded = claim(items=bare)
    made.decide(SCORE)
    assert not any("all prompt tokens" in row["name"] for row in concluded[0]["sensitivity"])
    assert "largest_beyond_text" not in concluded[0]["details"]


def test_without_labels_the_finding_is_not_applicable():
    bare = tuple(replace(p, verify=None) for p in PROMPTS)
    made, concluded = claim(prompts=bare)
    made.decide(followed_or_not(instruction_score, min_tokens=5))
    assert concluded[0]["verdict"] == "not_applicable"
    assert "rating or a verifier" in concluded[0]["reason"]


def test_followed_against_not_finds_a_planted_difference():
    made, concluded = claim()
    made.decide(followed_or_not(instruction_score, min_tokens=5))
    assert concluded[0]["verdict"] == "reproduced"
    assert [arm["label"] for arm in concluded[0]["arms"]] == ["not followed", "followed"]
    assert concluded[0]["base"] is None


def test_recorded_evidence_has_no_contrast_and_says_so():
    full = items()
    made, concluded = claim(items=lambda role, need: None if need.endswith(".contrast") else full(role, need))
    made.decide(SCORE)
    rows = {row["name"]: row for row in concluded[0]["sensitivity"]}
    assert rows["reference"]["verdict"] == "not_applicable"
    assert rows["own response, over all prompt tokens"]["verdict"] == "reproduced"


def test_a_reading_takes_the_thoughts_in_where_there_are_any():
    full, name = items(), "own response, with the thoughts before it"
    thought, asked = {"text": "Hm.", "tokens": 2, "ended": True}, []

    def thinking(role, need):
        asked.append(need)
        found = full(role, "attribution" if need.startswith("attribution") else need)
        return {i: replace(item, values={**item.values, "thoughts": thought}) for i, item in found.items()}

    made, concluded = claim(items=thinking)
    made.decide(SCORE)
    assert name in {row["name"] for row in concluded[0]["sensitivity"]}
    assert "attribution.thoughts" in asked
    made, concluded = claim()
    made.decide(SCORE)
    assert name not in {row["name"] for row in concluded[0]["sensitivity"]}


def test_the_base_in_a_plain_format_is_a_reading_only_where_the_run_asks_it_so():
    full, asked, name = items(), [], "own response, base asked in a plain format"

    def told(role, need):
        asked.append((role, need))
        return full(role, "attribution" if need.startswith("attribution") else need)

    made, concluded = claim(items=told, base_formats={"plain": "base asked in a plain format"})
    made.decide(SCORE, readings=made.asked_otherwise(lambda end: asked.append(("reading", end)) or SCORE))
    names = [row["name"] for row in concluded[0]["sensitivity"]]
    assert name in names
    assert names.count("base asked in a plain format") == 1
    assert {("base", "attribution.plain"), ("reading", ".plain")} <= set(asked)
    assert ("tuned", "attribution.plain") not in asked
    made, concluded = claim()
    made.decide(SCORE, readings=made.asked_otherwise(lambda end: SCORE))
    assert not any("plain" in row["name"] for row in concluded[0]["sensitivity"])


def test_what_feeds_readings_alone_is_not_among_the_evidence_of_a_claim():
    finding = replace(FINDING, needs=(*FINDING.needs, ("base", "attribution.plain")))
    made, concluded = claim(finding=finding, evidence_name=lambda role, need: f"{role} {need}")
    made.decide(SCORE)
    assert list(concluded[0]["evidence"]) == ["base attribution", "tuned attribution"]


def test_a_response_cut_while_thinking_was_not_followed():
    full = items()
    cut = {"text": "Hm.", "tokens": 2, "ended": False}

    def thinking(role, need):
        return {i: replace(item, values={**item.values, "thoughts": cut}) for i, item in full(role, need).items()}

    _, followed, _ = view(items=thinking).followed_arms(instruction_score, min_tokens=0)
    assert followed.ids == ()
    assert len(view().followed_arms(instruction_score, min_tokens=0)[1].ids) == sum(HEEDED)


@pytest.mark.parametrize(("shift", "loses"), [(0.6, False), (0.1, True)])
def test_shown_prompts_follow_the_rule_and_the_seed(shift, loses):
    made, concluded = claim(items=items(shift))
    made.decide(SCORE, strips=instruction_score)
    record = concluded[0]
    gains = np.array(record["values"]["tuned"]["x"]) - np.array(record["values"]["base"]["x"])
    by_why = {e["why"]: e["id"] for e in record["examples"]}
    assert by_why["largest gain"] == record["values"]["base"]["ids"][int(gains.argmax())]
    assert bool(gains.min() < 0) is loses
    assert by_why.get("largest loss") == (record["values"]["base"]["ids"][int(gains.argmin())] if loses else None)
    assert len(record["examples"]) == 4
    again, concluded_again = claim(items=items(shift))
    again.decide(SCORE, strips=instruction_score)
    assert concluded_again[0]["examples"] == record["examples"]


def shown(*gains: float) -> list[str]:
    ids = tuple("abcdef"[: len(gains)])
    base = np.array([0.3] * len(ids))
    arms = [Arm(label=k, ids=ids, values=v) for k, v in (("base", base), ("tuned", base + np.array(gains)))]
    return sorted(why for _, why in chosen_prompts(*arms, seed=0))


def test_a_prompt_that_did_not_move_is_neither_the_largest_gain_nor_the_largest_loss():
    assert shown(0.2, -0.1, 0, 0, 0) == ["drawn at random", "drawn at random", "largest gain", "largest loss"]
    assert shown(-0.2, -0.1, 0, 0) == ["drawn at random"] * 3 + ["largest loss"]
    assert shown(0.2, 0.1, 0, 0) == ["drawn at random"] * 3 + ["largest gain"]
    assert shown(0, 1e-17, 5e-17, -1e-17, 0) == ["drawn at random"] * 4
    assert shown(0.1, 0.2) == ["drawn at random", "largest gain"]


def test_an_expectation_is_recorded_with_its_reason():
    expected = Expectation(finding=FINDING.id, verdict=Outcome.INCONCLUSIVE, reason="small")
    made, concluded = claim(expected=expected)
    made.decide(SCORE)
    assert concluded[0]["expected"] == {"verdict": "inconclusive", "reason": "small"}


@pytest.mark.parametrize("other", [{"group": "g"}, {"prompt_set": "s"}, {"pair": replace(PAIR, name="q")}])
def test_seeds_differ_between_claims_and_not_between_runs(other):
    assert claim()[0].seed == claim()[0].seed
    assert claim()[0].seed != claim(**other)[0].seed


NULL_PAIRS = 300


def null_items(seed: int):
    """Evidence of two models that differ by chance alone: each prompt has its own weight, shared by its cluster."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(rng.random(len(PROMPTS) // 2), 2)

    def one(i: int, prompt: Prompt) -> EvidenceItem:
        column = np.array([0.1, cluster[i], cluster[i], 0.6, 0.5])
        cells = column[:, None] * rng.random((5, 6))
        return EvidenceItem(
            id=prompt.id,
            arrays={"importance": cells.astype(np.float32), "offsets": OFFSETS},
            values={"tokens": [""] * 5, "response_tokens": [""] * 6, "response": "", "ended": True},
        )

    made = {role: {p.id: one(i, p) for i, p in enumerate(PROMPTS)} for role in ("base", "tuned")}
    return lambda role, need: made[role]


def test_false_positives_over_null_pairs_keep_to_the_level():
    """Through scores, pairing and clusters; the interval that excludes zero is the false alarm, sesoi or not."""
    from scipy.stats import binom

    alarms = 0
    for seed in range(NULL_PAIRS):
        low, high = SCORE(view(items=null_items(seed))).interval
        alarms += low > 0 or high < 0
    fewest, most = binom.interval(0.99, NULL_PAIRS, 0.05)
    assert fewest <= alarms <= most


@pytest.mark.numerics
@pytest.mark.parametrize(("size", "shift"), [(1, 0.4), (4, 0.4), (4, 0.03), (40, 0.03)])
def test_level_interval_verdict_and_rows_are_those_of_the_familys_share(size, shift):
    made, concluded = claim(family_size=size, items=items(shift))
    made.decide(SCORE, secondary={"again": SCORE}, readings={"same": SCORE})
    (record,) = concluded
    low, high = (math.nan if end is None else end for end in record["interval"])
    assert record["level"] == pytest.approx(1 - 0.05 / size)
    assert (record["family"], record["family_size"]) == (FINDING.id, size)
    assert record["verdict"] == ("reproduced" if low > 0.05 else "contradicted" if high < 0.05 else "inconclusive")
    assert (record["verdict"] == "inconclusive") == (record["p_decides"] is None or record["p_decides"] > 0.05 / size)
    same = {row["name"]: row for row in record["sensitivity"]}["same"]
    assert same["interval"] == record["secondary"][0]["interval"] == record["interval"]
    assert same["verdict"] == record["verdict"]


def test_a_larger_family_widens_the_interval():
    found = []
    for size in (1, 4):
        made, concluded = claim(family_size=size)
        made.decide(SCORE)
        found.append(concluded[0])
    (one_low, one_high), (four_low, four_high) = (record["interval"] for record in found)
    assert four_low < one_low < one_high < four_high
    assert found[0]["effect"] == found[1]["effect"]
    assert found[0]["p_decides"] == found[1]["p_decides"]


def taken_by(base: str, tuned: str, *, half: bool):
    """Evidence that says which path took it, in half precision with its cost."""
    made, path = items(), {"base": base, "tuned": tuned}
    cost = {"precision_cost": {"relative_error": 0.1, "levels_moved": 0.2}} if half else {}

    def said(role: str, need: str):
        return {
            i: replace(item, values={**item.values, "path": path[role], **cost}) for i, item in made(role, need).items()
        }

    return said


@pytest.mark.parametrize(
    ("tuned", "half", "noted"), [("generic", True, True), ("generic", False, False), ("llama", True, False)]
)
def test_sides_that_other_paths_took_in_half_precision_are_said(tuned: str, half: bool, noted: bool):
    made, concluded = claim(items=taken_by("llama", tuned, half=half))
    made.decide(SCORE)
    (record,) = concluded
    assert record["details"]["attribution_paths"] == {"base": "llama", "tuned": tuned}
    note = other_paths(record)
    assert (note is not None) is noted
    if note is not None:
        assert note.startswith("In half precision base by the llama path, tuned by the generic path")
        terminal = Terminal()
        write_summary(terminal, [record], [], 0.05, inconclusive="skip")
        assert f"who2024.what, pair: {note}" in terminal.lines
        assert note in claim_view(record, "anchor")["other_paths"]


class Terminal:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        self.lines.append(f"{title}")


def test_a_secondary_quantity_that_does_not_apply_is_a_row_with_the_reason():
    def blind(seen):
        raise NotApplicable("the annotator cannot see this category")

    made, concluded = claim()
    made.decide(SCORE, secondary={"blind": blind, "again": SCORE})
    blind_row, again = concluded[0]["secondary"]
    assert (blind_row["effect"], blind_row["note"]) == (None, "the annotator cannot see this category")
    assert again["effect"] == concluded[0]["effect"]


def test_a_reading_in_another_unit_says_so():
    def wins(seen):
        return replace(SCORE(seen), unit="wins over base less losses")

    made, concluded = claim()
    made.decide(SCORE, readings={"judged otherwise": wins})
    notes = {row["name"]: row.get("note") for row in concluded[0]["sensitivity"]}
    assert notes["judged otherwise"] == "wins over base less losses"


def test_a_verdict_that_was_reached_by_growing_the_set_is_left_open():
    made, concluded = claim(grown=lambda: (20, "The set has grown from 20."))
    made.decide(SCORE)
    (record,) = concluded
    assert record["verdict"] == "inconclusive"
    assert record["reason"] == "The set has grown from 20. The interval alone says reproduced."
    assert record["details"]["grown_from"] == 20
    # What is open anyway stays open for its own reason.
    made, concluded = claim(grown=lambda: pytest.fail("asked"), items=items(shift=0.1))
    made.decide(SCORE)
    assert concluded[0]["verdict"] == "inconclusive"
    assert "grown_from" not in concluded[0]["details"]
