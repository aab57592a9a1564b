"""Instruction recognition: scores of importance against naive definitions, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from tuneshift.measures.attribution.density import Attribution
from tuneshift.quantities.recognition import (
    instruction_score,
    instruction_share,
    instruction_share_slope,
    mean_instruction_share,
    middle_density_share,
    prompt_profile,
    tokens_without_share,
)


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


def test_score_of_fully_dense_instruction_is_its_length_over_the_log():
    levels = np.full((4, 6), 10)
    assert instruction_score(attribution(levels, [0, 1, 2])) == pytest.approx(3 / np.log2(5))


def test_score_of_an_empty_response_is_zero_and_without_instruction_undefined():
    assert instruction_score(attribution(np.zeros((4, 0)), [0])) == 0.0
    assert instruction_score(attribution(np.full((4, 3), 10), [])) is None


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


def test_share_is_of_instruction_and_context_alone():
    levels = np.full((9, 5), 10)
    found = attribution(levels, [0], context=[1, 2, 3, 4, 5])
    assert mean_instruction_share(found) == pytest.approx(1 / 6)


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


def test_middle_share_is_half_where_every_token_is_as_dense():
    assert middle_density_share(attribution(np.full((40, 3), 10), [0])) == pytest.approx(0.5)


def test_middle_share_of_an_empty_middle_is_zero_and_of_empty_ends_one():
    middle = np.zeros((50, 3))
    middle[10:40] = 10
    assert middle_density_share(attribution(middle, [0])) == pytest.approx(1.0)
    assert middle_density_share(attribution(10 - middle, [0])) == pytest.approx(0.0)


def test_middle_share_is_the_ratio_in_bounded_form():
    levels = np.random.default_rng(3).integers(0, 11, size=(35, 8))
    profile = prompt_profile(attribution(levels, [0]))
    ratio = profile[1:4].mean() / profile[[0, 4]].mean()
    assert middle_density_share(attribution(levels, [0])) == pytest.approx(ratio / (1 + ratio))


def test_short_prompts_have_no_middle():
    assert prompt_profile(attribution(np.full((29, 3), 10), [0])) is None
    assert middle_density_share(attribution(np.zeros((30, 3)), [0])) is None
