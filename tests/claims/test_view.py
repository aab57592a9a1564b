"""A view: which prompts it takes, in which order, how labels come about, and what a lens changes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import Lens, NotApplicable, View
from tuneshift.measures.attribution.density import Attribution, importance_levels
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.store.evidence import EvidenceItem

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
TEXT = "Sort it: b"
OFFSETS = np.array([[-1, -1], [0, 4], [5, 8], [9, 10]], dtype=np.int32)
"""A token of the template, two of the instruction, one of the context."""
RESPONSE = 3


def prompts(n: int = 6, **fields) -> tuple[Prompt, ...]:
    return tuple(Prompt(id=f"p{k}", prompt=TEXT, instruction_spans=((0, 8),), **fields) for k in range(n))


def attribution(k: int, *, role: str = "base", levels: bool = False, **more) -> EvidenceItem:
    seed = k + 100 * (role == "tuned")
    importance = np.random.default_rng(seed).random((len(OFFSETS), RESPONSE)).astype(np.float32)
    array = {"levels": np.full(importance.shape, 9, dtype=np.uint8)} if levels else {"importance": importance}
    values = {"tokens": ["<u>", "Sort", " it:", " b"], "response_tokens": ["x"] * RESPONSE, **more}
    return EvidenceItem(id=f"p{k}", arrays={**array, "offsets": OFFSETS}, values=values)


def response(k: int, text: str = "yes", tokens: int = 6, **more) -> EvidenceItem:
    ids = np.zeros(tokens, dtype=np.int64)
    return EvidenceItem(id=f"p{k}", arrays={"response_ids": ids}, values={"response": text, "ended": True}, **more)


def view(members: tuple[Prompt, ...], *, left_out=(), responses=None, levels=False, none=(), **fields) -> View:
    """A view of made-up evidence. ``left_out``: (role, id) that were not measured; ``none``: needs without evidence."""

    def items(role: str, need: str):
        if need in none:
            return None
        if need == "generation.local":
            return None if responses is None else {item.id: item for item in responses}
        kept = {}
        for k, prompt in enumerate(members):
            measured = (role, prompt.id) not in left_out
            skipped = EvidenceItem(id=prompt.id, left_out="too long")
            kept[prompt.id] = attribution(k, role=role, levels=levels) if measured else skipped
        return kept

    return View(**{"pair": PAIR, "prompts": members, "items": items, "level": 0.95, "seed": 1, **fields})


def first_level(found: Attribution) -> float:
    return float(found.levels[1, 0])


@pytest.mark.parametrize("seed", range(20))
def test_a_paired_score_stands_on_the_prompts_that_have_it_on_both_sides_in_prompt_order(seed: int) -> None:
    rng = random.Random(seed)
    members = prompts(8, cluster=rng.choice(["c", None]))
    left_out = {(role, p.id) for role in ("base", "tuned") for p in members if rng.random() < 0.2}
    undefined = {p.id for p in members if rng.random() < 0.2}
    seen = view(members, left_out=left_out)
    base, tuned, clusters = seen.paired(lambda a: None if a.id in undefined else first_level(a), undefined="no score")
    measured = [p.id for p in members if not {("base", p.id), ("tuned", p.id)} & left_out]
    wanted = [i for i in measured if i not in undefined]
    assert base.ids == tuned.ids == tuple(wanted)
    assert clusters == tuple(p.cluster or p.id for p in members if p.id in wanted)
    assert (base.label, tuned.label) == ("base", "tuned")
    for arm in (base, tuned):
        assert list(arm.values) == [first_level(seen.attributions(arm.label)[i]) for i in wanted]
    assert seen.excluded["no score"] == len(measured) - len(wanted)
    assert seen.excluded["base: too long"] == sum(role == "base" for role, _ in left_out)


def test_a_score_on_one_side_alone_is_no_pair() -> None:
    seen = view(prompts(2))
    tuned = {id(a) for a in seen.attributions("tuned").values()}
    base, _, _ = seen.paired(lambda a: None if id(a) in tuned and a.id == "p0" else 1.0, undefined="none")
    assert base.ids == ("p1",)


def test_evidence_is_read_once_a_role_and_what_was_left_out_counted_once() -> None:
    asked = []
    made = view(prompts(3), left_out={("base", "p1")})
    counted = replace(made, items=lambda role, need: asked.append((role, need)) or made.items(role, need))
    for _ in range(2):
        assert list(counted.attributions("base")) == ["p0", "p2"]
    assert asked == [("base", "attribution")]
    assert counted.excluded == {"base: too long": 1}


def test_masks_tell_template_instruction_and_context_apart() -> None:
    found = view(prompts(1)).attributions("base")["p0"]
    assert found.instruction.tolist() == [False, True, True, False]
    assert found.user.tolist() == [False, True, True, True]
    assert found.context.tolist() == [False, False, False, True]


def test_levels_and_density_are_scaled_over_the_users_text_unless_a_lens_says_otherwise() -> None:
    members = prompts(1)
    text = view(members).attributions("base")["p0"]
    assert text.scope.tolist() == text.user.tolist() == [False, True, True, True]
    assert np.array_equal(text.levels[1:], importance_levels(text.importance[1:]))
    assert text.levels[0].sum() == text.density[0] == 0
    every = view(members, lens=Lens(scale="all")).attributions("base")["p0"]
    assert every.scope.all()
    assert np.array_equal(every.levels, importance_levels(text.importance))
    assert every.levels[0].sum() > 0
    assert every.context.tolist() == [True, False, False, True]


def test_a_lens_without_white_space_scales_by_what_holds_a_character() -> None:
    (prompt,) = prompts(1)
    members = (replace(prompt, prompt="Sort it: \n"),)
    blank = view(members, lens=Lens(scale="nonspace")).attributions("base")["p0"]
    assert blank.scope.tolist() == [False, True, True, False]
    assert np.array_equal(blank.levels[1:3], importance_levels(blank.importance[1:3]))
    assert view(members).attributions("base")["p0"].scope.tolist() == [False, True, True, True]
    with pytest.raises(NotApplicable, match="scaled with white space"):
        view(members, levels=True, lens=Lens(scale="nonspace")).attributions("base")


def test_rows_that_were_not_taken_leave_the_deciding_levels_and_no_reading_over_all_tokens() -> None:
    members = prompts(2)
    every = view(members)

    def left_out(role: str, need: str):
        found = {}
        for i, item in every.items(role, need).items():
            importance = item.arrays["importance"].copy()
            importance[item.arrays["offsets"][:, 0] < 0] = np.nan
            found[i] = replace(item, arrays={**item.arrays, "importance": importance})
        return found

    some = replace(every, items=left_out, _attributions={})
    for i, mine in some.attributions("base").items():
        assert np.array_equal(mine.levels, every.attributions("base")[i].levels)
        assert np.array_equal(mine.density, every.attributions("base")[i].density)
    assert some.beyond_text
    assert some.largest_beyond_text() == {"base": "not measured"}
    for lens in (Lens(scale="nonspace"), Lens(release_epsilon=True)):
        assert replace(some, lens=lens, _attributions={}).attributions("base")
    with pytest.raises(NotApplicable, match=r"^not measured: importance of tokens beside the user's text was left out"):
        replace(some, lens=Lens(scale="all"), _attributions={}).attributions("base")


@pytest.mark.numerics
def test_the_share_of_response_tokens_whose_largest_importance_is_the_templates() -> None:
    seen = view(prompts(3))
    assert seen.largest_beyond_text() == {}  # nothing read yet
    read = seen.attributions("tuned").values()
    naive = [bool(column.argmax() == 0) for a in read for column in a.importance.T]
    assert 0 < sum(naive) < len(naive)
    assert seen.largest_beyond_text() == {"tuned": pytest.approx(sum(naive) / len(naive))}
    assert seen.beyond_text
    recorded = view(prompts(3), levels=True)
    recorded.attributions("base")
    assert recorded.largest_beyond_text() == {}


def test_a_lens_of_the_other_response_reads_other_evidence_or_does_not_apply() -> None:
    asked = []
    made = view(prompts(1))
    lens = Lens(contrast=True)
    counted = replace(made, items=lambda role, need: asked.append(need) or made.items(role, need), lens=lens)
    counted.attributions("tuned")
    assert asked == ["attribution.contrast"]
    with pytest.raises(NotApplicable, match="one kind of response only"):
        view(prompts(1), none={"attribution.contrast"}, lens=lens).attributions("tuned")


def test_recorded_levels_are_taken_as_they_are_and_have_no_other_epsilon() -> None:
    found = view(prompts(1), levels=True).attributions("base")["p0"]
    assert (found.levels == 9).all()
    assert found.importance is None
    with pytest.raises(NotApplicable, match="already hold the release's epsilon"):
        view(prompts(1), levels=True, lens=Lens(release_epsilon=True)).attributions("base")


def test_levels_moved_is_the_share_of_cells_that_differ_over_the_roles_that_both_have_read() -> None:
    members = prompts(3)
    one, same, other = view(members), view(members), view(members, levels=True)
    assert one.levels_moved(other) == 0.0  # nothing read yet
    for seen in (one, same, other):
        seen.attributions("base")
    one.attributions("tuned")
    assert one.levels_moved(same) == 0.0
    cells = np.concatenate([a.levels.ravel() for a in one.attributions("base").values()])
    assert one.levels_moved(other) == other.levels_moved(one) == np.mean(cells != 9)
    assert one.levels_moved(other) > 0


VERIFIED = {"verify": {"kind": "exact", "answers": ["yes"]}, "cluster": "c"}


def arms(seen: View, score=first_level):
    low, high, clusters = seen.followed_arms(score, min_tokens=5)
    return low.ids, high.ids, clusters


def test_verifiers_label_the_tuned_models_own_responses() -> None:
    members = prompts(4, **VERIFIED)
    seen = view(members, responses=[response(0), response(1, "no"), response(2, "no"), response(3)])
    low, high, _ = seen.followed_arms(first_level, min_tokens=5)
    assert (low.label, low.ids) == ("not followed", ("p1", "p2"))
    assert (high.label, high.ids) == ("followed", ("p0", "p3"))
    assert list(high.values) == [first_level(seen.attributions("tuned")[i]) for i in high.ids]
    assert arms(seen)[2] == dict.fromkeys(("p0", "p1", "p2", "p3"), "c")


def test_ratings_come_before_verifiers() -> None:
    members = tuple(replace(p, fields={"stars": k}) for k, p in enumerate(prompts(4, **VERIFIED)))
    seen = view(members, responses=[response(k) for k in range(4)], pair=replace(PAIR, ratings="stars"))
    assert arms(seen)[:2] == (("p1",), ("p2", "p3"))
    assert seen.excluded == {"without a rating or a verifier": 1}


def test_short_responses_and_those_left_out_are_counted_and_not_labelled() -> None:
    members = prompts(4, **VERIFIED)
    given = [response(0, tokens=4), response(1, tokens=5), response(2, left_out="too long"), response(3, "no")]
    seen = view(members, responses=given)
    assert arms(seen)[:2] == (("p3",), ("p1",))
    assert seen.excluded == {"response under 5 tokens": 1, "without a rating or a verifier": 1}


def test_without_responses_of_its_own_the_length_is_the_attributed_responses() -> None:
    members = tuple(replace(p, fields={"stars": 2}) for p in prompts(2))
    seen = view(members, pair=replace(PAIR, ratings="stars"))
    assert arms(seen)[:2] == ((), ())
    assert seen.excluded == {"response under 5 tokens": 2}
    low, high, _ = view(members, pair=replace(PAIR, ratings="stars")).followed_arms(first_level, min_tokens=RESPONSE)
    assert (low.ids, high.ids) == ((), ("p0", "p1"))


@pytest.mark.parametrize("members", [prompts(2), prompts(2, **VERIFIED)], ids=["no verifier", "no responses"])
def test_labels_from_nowhere_do_not_apply_and_the_message_says_where_they_could_come_from(members) -> None:
    with pytest.raises(NotApplicable, match="set `ratings` in the pair file or `verify` in the prompt set"):
        view(members).followed_arms(first_level, min_tokens=1)
