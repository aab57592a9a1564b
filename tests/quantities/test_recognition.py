"""Instruction recognition: scores of importance against naive definitions, and what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import NotApplicable, View
from tuneshift.measures.attribution.density import Attribution, importance_levels
from tuneshift.measures.attribution.thinning import evenly_spaced
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.quantities.recognition import (
    context_score,
    instruction_minus_context,
    instruction_score,
    instruction_share,
    instruction_share_slope,
    kept_tokens,
    longest_response,
    mean_instruction_share,
    middle_density_share,
    paired,
    prompt_profile,
    to_shorter,
    tokens_without_share,
)
from tuneshift.quantities.recognition_figures import kept_tokens_figure


def attribution(levels: np.ndarray, instruction: list[int], *, context: list[int] | None = None) -> Attribution:
    """Levels [prompt token, response token]; every token that is not of the instruction is context by default."""
    n = len(levels)
    mask, beside = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    mask[instruction] = True
    beside[[k for k in range(n) if k not in instruction] if context is None else context] = True
    every = np.ones(n, dtype=bool)
    return Attribution(
        id="x", levels=levels.astype(np.uint8), instruction=mask, context=beside, user=every, scope=every
    )


@pytest.mark.numerics
def test_score_of_fully_dense_instruction_is_its_length_over_the_log():
    levels = np.full((4, 6), 10)
    assert instruction_score(attribution(levels, [0, 1, 2])) == pytest.approx(3 / np.log2(5))


def test_score_of_an_empty_response_is_zero_and_without_instruction_undefined():
    assert instruction_score(attribution(np.zeros((4, 0)), [0])) == 0.0
    assert instruction_score(attribution(np.full((4, 3), 10), [])) is None


def random_attribution(seed: int, response: int, tokens: int = 12) -> Attribution:
    levels = np.random.default_rng(seed).integers(0, 11, size=(tokens, response))
    return attribution(levels, [0, 1, 2, 3], context=[4, 5, 6, 7, 8, 9])


def test_the_score_over_the_context_is_the_score_of_the_context_as_instruction():
    found = random_attribution(0, 20)
    swapped = replace(found, instruction=found.context, context=found.instruction)
    assert context_score(found) == instruction_score(swapped)
    assert instruction_minus_context(found) == instruction_score(found) - context_score(found)


@pytest.mark.numerics
def test_the_context_has_no_score_under_five_tokens():
    found = attribution(np.full((10, 6), 10), [0], context=[1, 2, 3, 4])
    assert context_score(found) is None
    assert instruction_minus_context(found) is None
    assert context_score(replace(found, context=~found.instruction)) == pytest.approx(9 / np.log2(11))
    assert instruction_minus_context(attribution(np.full((10, 6), 10), [])) is None


@pytest.mark.parametrize("kept", [1, 7, 20, 50])
def test_a_response_cut_is_the_one_measured_so_far(kept: int):
    """Levels of a response token do not depend on later ones, so cutting them is cutting the response."""
    rng = np.random.default_rng(kept)
    whole = rng.random((9, 20))
    found = replace(attribution(importance_levels(whole), [0, 1]), importance=whole)
    cut = found.first(kept)
    assert np.array_equal(cut.levels, importance_levels(whole[:, :kept]))
    assert np.array_equal(cut.importance, whole[:, :kept])
    assert cut.response_length == min(kept, 20)
    assert found.response_length == 20


def test_cuts_are_of_both_responses():
    long, short = random_attribution(1, 40), random_attribution(2, 10)
    for pair in ((long, short), (short, long)):
        assert [a.response_length for a in to_shorter(*pair)] == [10, 10]
    assert [a.response_length for a in kept_tokens(16)(long, short)] == [16, 10]
    assert longest_response([short, long]) == 40
    assert longest_response([]) == 0


def test_a_thinned_response_keeps_its_length_and_is_not_cut():
    whole = random_attribution(1, 40)
    places = evenly_spaced(40, 8)
    some = replace(whole, levels=whole.levels[:, places], thinned_from=40)
    assert (some.response_length, longest_response([some])) == (40, 40)
    assert instruction_score(some) == instruction_score(replace(some, thinned_from=None))
    with pytest.raises(NotApplicable, match="not measured: some tokens of each response were attributed"):
        to_shorter(some, whole)
    with pytest.raises(ValueError, match=r"8 of 40 response tokens\): a response of which some"):
        some.first(3)
    assert kept_tokens_figure(instruction_score, undefined="none")(view([(some, some)] * 3)) is None


def view(pairs: list[tuple[Attribution, Attribution]]) -> View:
    ids = [f"p{k}" for k in range(len(pairs))]
    sides = {role: {i: pair[k] for i, pair in zip(ids, pairs, strict=True)} for k, role in enumerate(("base", "tuned"))}
    prompts = tuple(Prompt(id=i, prompt="x", instruction_spans=()) for i in ids)
    refs = [ModelRef(name=name, model=name) for name in "bt"]
    return View(pair=ModelPair(name="pair", base=refs[0], tuned=refs[1]), prompts=prompts, items=lambda *_: None,
                level=0.95, seed=1, _attributions=sides)  # fmt: skip


@pytest.mark.numerics
def test_longer_responses_alone_make_an_effect_and_the_cut_takes_it_away():
    """Two models with one response as far as it goes, after which the base goes on about the instruction."""
    rng, pairs = np.random.default_rng(5), []
    for k in range(40):
        levels = np.where(rng.random((12, 60)) < 0.1, 10, 0)
        levels[11] = 10  # one word that matters to all of the response
        levels[:4, 15:] = 10
        base = replace(random_attribution(k, 60), levels=levels.astype(np.uint8))
        pairs.append((base, base.first(10 + k % 5)))
    score = {"undefined": "none"}
    whole = paired(instruction_score, **score, by_model={"longest_response": longest_response})(view(pairs))
    assert whole.interval[1] < -0.05
    assert whole.details["longest_response"] == {"base": 60, "tuned": 14}
    shorter = paired(instruction_score, **score, cut=to_shorter)(view(pairs))
    assert shorter.effect == 0.0
    assert shorter.n == 40

    figure = kept_tokens_figure(instruction_score, undefined="none")(view(pairs))
    assert figure["x"] == [16, 32, 60]
    (line,) = figure["series"]
    assert line["values"][-1] == whole.effect
    assert (line["low"][-1], line["high"][-1]) == whole.interval
    naive = [instruction_score(t.first(32)) - instruction_score(b.first(32)) for b, t in pairs]
    assert line["values"][1] == pytest.approx(np.mean(naive))
    assert "the longest has 60 tokens" in figure["caption"]


def test_what_is_told_of_each_model_is_of_the_prompts_that_count():
    pairs = [(random_attribution(k, 10 + k), random_attribution(k, 6)) for k in range(8)]
    pairs.append((attribution(np.full((8, 99), 10), []), pairs[0][1]))  # no instruction, so no score
    found = paired(instruction_score, undefined="none", by_model={"longest": longest_response})(view(pairs))
    assert found.n == 8
    assert found.details["longest"] == {"base": 17, "tuned": 6}


@pytest.mark.numerics
def test_share_counts_what_the_instruction_holds_in_each_fifth():
    levels = np.zeros((6, 10))
    levels[0, :6] = 10  # the instruction holds everything at first
    levels[1, 6:] = 10  # and the context the rest
    shares = instruction_share(attribution(levels, [0]))
    assert shares == pytest.approx([1, 1, 1, 0, 0])
    assert mean_instruction_share(attribution(levels, [0])) == pytest.approx(0.6)
    assert instruction_share_slope(attribution(levels, [0])) == pytest.approx(-0.3)


def test_share_is_undefined_with_little_context_or_a_short_response():
    assert instruction_share(attribution(np.full((6, 10), 10), [0])) is not None
    assert instruction_share(attribution(np.full((6, 10), 10), [0, 1])) is None  # four tokens of context
    assert instruction_share(attribution(np.full((6, 4), 10), [0])) is None
    assert instruction_share(attribution(np.zeros((6, 10)), [0])) is None
    assert instruction_share(attribution(np.full((6, 10), 10), [])) is None


@pytest.mark.numerics
def test_share_is_of_instruction_and_context_alone():
    levels = np.full((9, 5), 10)
    found = attribution(levels, [0], context=[1, 2, 3, 4, 5])
    assert mean_instruction_share(found) == pytest.approx(1 / 6)


@pytest.mark.numerics
def test_response_tokens_that_neither_holds_are_skipped_and_counted():
    levels = np.zeros((8, 10))
    levels[0, ::2] = 10  # the instruction
    levels[7, 1::2] = 10  # white space, say
    found = attribution(levels, [0], context=[1, 2, 3, 4, 5])
    assert mean_instruction_share(found) == 1.0
    assert tokens_without_share([found]) == 0.5
    full = attribution(np.full((8, 30), 10), [0])
    assert tokens_without_share([found, full]) == pytest.approx(5 / 40)  # of all response tokens
    assert tokens_without_share([attribution(np.zeros((8, 0)), [0])]) == 0.0
    assert tokens_without_share([]) == 0.0


@pytest.mark.numerics
def test_middle_share_is_half_where_every_token_is_as_dense():
    assert middle_density_share(attribution(np.full((40, 3), 10), [0])) == pytest.approx(0.5)


@pytest.mark.numerics
def test_middle_share_of_an_empty_middle_is_zero_and_of_empty_ends_one():
    middle = np.zeros((50, 3))
    middle[10:40] = 10
    assert middle_density_share(attribution(middle, [0])) == pytest.approx(1.0)
    assert middle_density_share(attribution(10 - middle, [0])) == pytest.approx(0.0)


@pytest.mark.numerics
def test_middle_share_is_the_ratio_in_bounded_form():
    levels = np.random.default_rng(3).integers(0, 11, size=(35, 8))
    profile = prompt_profile(attribution(levels, [0]))
    ratio = profile[1:4].mean() / profile[[0, 4]].mean()
    assert middle_density_share(attribution(levels, [0])) == pytest.approx(ratio / (1 + ratio))


def test_short_prompts_have_no_middle():
    assert prompt_profile(attribution(np.full((29, 3), 10), [0])) is None
    assert middle_density_share(attribution(np.zeros((30, 3)), [0])) is None
