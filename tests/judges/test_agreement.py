"""Agreement with responses judged by hand: kappa by its definition, of pairs and of single responses; the file."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tuneshift.errors import UsageError
from tuneshift.judges.agreement import (
    agreement,
    agreement_figure,
    agreement_text,
    in_short,
    judged_responses,
    markdown,
)
from tuneshift.judges.similarity import SimilarityJudge
from tuneshift.judges.verifier import VerifierJudge
from tuneshift.plain import plain
from tuneshift.report import figures
from tuneshift.words.texts import TextSpace

BY_HAND = {(item.prompt.id, item.response): item.follows for item in judged_responses()}


class Oracle:
    """A judge that knows what the hand said, and answers by ``rule`` of it and of its number among the questions."""

    identity = {"judge": "oracle"}  # noqa: RUF012
    unjudged = "skipped"

    def __init__(self, *, pairwise, rule=lambda known, k: known):
        self.pairwise, self.rule = pairwise, rule

    def scores(self, items):
        found = []
        for k, item in enumerate(items):
            sides = tuple(float(BY_HAND[item.prompt.id, text]) for text in (item.first, item.second))
            found.append(self.rule(sides, k))
        return found


def test_the_shipped_responses_are_as_their_readme_says():
    items = judged_responses()
    assert len(items) == 150
    assert Counter(item.set for item in items) == {"general": 90, "micro-heldout": 60}
    assert Counter(item.follows for item in items) == {True: 81, False: 69}
    per_prompt = Counter((item.set, item.prompt.id) for item in items)
    assert set(per_prompt.values()) == {2}
    assert all(item.prompt.verify for item in items)
    assert all(item.prompt.reference for item in items)


@pytest.mark.parametrize(("pairwise", "asked"), [(False, 150), (True, 69)])
def test_a_judge_that_says_what_the_hand_said_agrees_entirely(pairwise, asked):
    found = agreement(Oracle(pairwise=pairwise))
    assert (found.asked, found.unjudged) == (asked, 0)
    assert [kappa.kappa for kappa in found.kappas] == [1.0] * 3
    assert [kappa.name for kappa in found.kappas] == ["all", "general", "micro-heldout"]


@pytest.mark.numerics
@pytest.mark.parametrize("pairwise", [False, True])
def test_a_judge_that_says_the_contrary_and_one_that_always_says_the_same(pairwise):
    contrary = agreement(Oracle(pairwise=pairwise, rule=lambda known, k: (1 - known[0], 1 - known[1])))
    assert contrary.kappas[0].kappa < -0.9
    same = agreement(Oracle(pairwise=pairwise, rule=lambda known, k: (1.0, 0.0)))
    assert same.kappas[0].kappa == pytest.approx(0, abs=1e-9)  # shares of a few dozen, in double precision
    ties = agreement(Oracle(pairwise=True, rule=lambda known, k: (0.5, 0.5)))
    assert ties.kappas[0].kappa == pytest.approx(0, abs=1e-9)  # shares of a few dozen, in double precision


@pytest.mark.numerics
def test_kappa_is_its_definition_on_the_verifier():
    found = agreement(VerifierJudge())
    (a, b, _), (c, d, _) = found.kappas[0].confusion
    n = a + b + c + d
    chance = ((a + b) * (a + c) + (c + d) * (b + d)) / n**2
    assert found.kappas[0].kappa == pytest.approx(((a + d) / n - chance) / (1 - chance))
    low, high = found.kappas[0].interval
    assert low < found.kappas[0].kappa < high


def test_a_prompts_two_responses_are_drawn_together():
    """Right about both or wrong about both: half as many independent answers, so a wider interval than of as many."""
    together = agreement(Oracle(pairwise=False, rule=lambda known, k: known if k // 2 % 3 else (1 - known[0],) * 2))
    apart = agreement(Oracle(pairwise=False, rule=lambda known, k: known if k % 3 else (1 - known[0],) * 2))
    widths = [found.kappas[0].interval[1] - found.kappas[0].interval[0] for found in (together, apart)]
    assert widths[0] > 1.2 * widths[1]


def test_a_response_without_a_score_is_a_disagreement_and_counted():
    found = agreement(Oracle(pairwise=True, rule=lambda known, k: None if k < 6 else known))
    assert found.unjudged == 6
    assert found.kappas[0].kappa < 1


def test_similarity_is_asked_about_pairs_in_its_own_word_space():
    found = agreement(SimilarityJudge(TextSpace("embedded:micro/words.npz")))
    assert (found.pairwise, found.asked) == (True, 69)
    assert found.kappas[0].kappa < agreement(VerifierJudge()).kappas[0].kappa


def test_nothing_to_ask_is_an_error():
    alone = judged_responses()[:1]
    with pytest.raises(ValueError, match="a pairwise judge needs two to a prompt that differ"):
        agreement(Oracle(pairwise=True), alone)


def test_the_figure_the_details_and_the_text_say_the_same():
    found = agreement(VerifierJudge()).plain()
    figure = agreement_figure([found])
    plain(figure)
    (view,) = figures.figure_views([figure])
    assert view["title"] == "How far the judge can be trusted"
    assert [row["points"][0]["n"] for row in figure["rows"]] == [150, 90, 60]
    assert in_short([found])["verifier"]["all"]["kappa"] == found["kappas"][0]["kappa"]
    assert agreement_text(VerifierJudge()) == markdown(found)
    assert markdown(found).startswith("150 responses, judged by hand; 0 without a score.")


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "set": "general", "prompt": "nowhere", "response": "x", "follows": True},
        {"id": "a", "set": "general", "prompt": "general-answer-11", "response": "x", "follows": "yes"},
        {"id": "a", "set": "general", "prompt": "general-answer-11", "follows": True},
    ],
)
def test_a_malformed_line_is_named(tmp_path, row):
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=r"judged.jsonl:1: not a judged response"):
        judged_responses(path)
