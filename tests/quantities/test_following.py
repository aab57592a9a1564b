"""Following: planted followers are told apart, equal ones are not, and every number equals its naive definition."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.claim_record import claim_record
from tuneshift.claims.finding import Finding
from tuneshift.claims.verdict import judge
from tuneshift.claims.view import NotApplicable, View
from tuneshift.judges.verifier import VerifierJudge
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.quantities.following import following, repetition, win_rate, within
from tuneshift.quantities.following_figures import (
    ended_figure,
    following_figure,
    length_figure,
    repetition_figure,
    responses_figure,
    win_matrix_figure,
)
from tuneshift.quantities.style import Style, style_fades, weighted_spearman
from tuneshift.report import figures
from tuneshift.statistics.differences import paired_difference
from tuneshift.store.evidence import EvidenceItem

pytestmark = pytest.mark.numerics

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
BASE, RULES, TUNED, SINGLE = (
    ("base", "generation"), ("base", "generation.rules"), ("tuned", "generation"), ("single_task_tuned", "generation"),
)  # fmt: skip
MODELS = {"base": BASE, "base with rules": RULES, "single task": SINGLE, "tuned": TUNED}
JUDGE = VerifierJudge()
FOLLOWS = Finding(
    id="who2024.follows", title="t", claim="c", source="s", direction="greater", unit="share of prompts followed",
    sesoi=0.05, sesoi_reason="r", how="h", needs=(("base", "generation"), ("tuned", "generation")),
)  # fmt: skip


class Longer:
    """A pairwise judge for tests: the longer response wins; prompts that it is told to skip are not judged."""

    identity = {"judge": "longer"}  # noqa: RUF012
    pairwise = True
    unjudged = "skipped"

    def __init__(self, skip=()):
        self.skip = skip

    def scores(self, items):
        signs = [np.sign(len(i.second) - len(i.first)) / 2 for i in items]
        return [None if i.prompt.id in self.skip else (0.5 - s, 0.5 + s) for i, s in zip(items, signs, strict=True)]


def wilson(wins, count):
    found = stats.binomtest(wins, count).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def prompts(count, per_cluster=1):
    rule = {"kind": "exact", "answers": ["yes"]}
    return tuple(
        Prompt(id=f"p{i:03}", prompt=f"Say {i}.", instruction_spans=(), cluster=f"c{i // per_cluster}", verify=rule,
               fields={"task": "recipe" if i % 4 == 0 else "other"})
        for i in range(count)
    )  # fmt: skip


def answers(asked, texts, ended=True):
    return {
        p.id: EvidenceItem(
            id=p.id, arrays={"response_ids": np.arange(len(t.split()))}, values={"response": t, "ended": ended}
        )
        for p, t in zip(asked, texts, strict=True)
    }


def followers(asked, share, seed):
    """Responses of which about this share follow."""
    return answers(asked, np.where(np.random.default_rng(seed).random(len(asked)) < share, "yes", "no way").tolist())


def view(asked, level=0.95, seed=0, **roles):
    """Evidence by role, with a double underscore before the variant: ``base__rules``."""
    found = {tuple(name.split("__")): items for name, items in roles.items()}

    def items(role, need):
        variant = need.partition(".")[2]
        if role not in {"base", "tuned"} and (role,) not in found:
            raise NotApplicable(f"the pair names no {role}")
        return found.get((role, variant) if variant else (role,))

    return View(pair=PAIR, prompts=asked, items=items, level=level, seed=seed,
                evidence_name=lambda role, need: str(id(items(role, need))))  # fmt: skip


# following


def test_planted_followers_are_told_apart_both_ways():
    asked = prompts(120)
    seen = view(asked, base=followers(asked, 0.2, 1), tuned=followers(asked, 0.8, 2))
    up, down = following(BASE, TUNED, judge=JUDGE)(seen), following(TUNED, BASE, judge=JUDGE)(seen)
    assert up.interval[0] > 0.3
    assert (down.effect, *down.interval) == pytest.approx((-up.effect, -up.interval[1], -up.interval[0]))
    assert [(a.label, round(a.mean, 1)) for a in up.arms] == [("base", 0.2), ("tuned", 0.8)]
    assert up.details["judge"] == {"judge": "verifier"}


def test_it_is_the_paired_difference_of_naive_scores():
    asked = prompts(60, per_cluster=3)
    sides = followers(asked, 0.3, 1), followers(asked, 0.6, 2)
    seen = view(asked, base=sides[0], base__rules=sides[1])
    found = following(BASE, RULES, judge=JUDGE, labels=("plain", "ruled"))(seen)
    naive = [np.array([float(s[p.id].values["response"] == "yes") for p in asked]) for s in sides]
    arms = [replace(arm, values=values) for arm, values in zip(found.arms, naive, strict=True)]
    wanted = paired_difference(*arms, clusters=[p.cluster for p in asked], level=0.95)
    assert (found.effect, found.interval, found.p) == (wanted.effect, wanted.interval, wanted.p)
    assert found.clusters == 20
    assert [arm.label for arm in found.arms] == ["plain", "ruled"]
    assert [arm.label for arm in following(BASE, RULES, judge=JUDGE)(seen).arms] == ["base", "base + rules"]


@pytest.mark.parametrize("judge", [JUDGE, Longer()])
def test_equal_responses_differ_by_nothing(judge):
    asked = prompts(40)
    same = followers(asked, 0.5, 3)
    seen = view(asked, base=same, tuned=same)
    found = following(BASE, TUNED, judge=judge)(seen)
    assert (found.effect, found.interval, found.p) == (0, (0, 0), 1)
    rate = win_rate(BASE, TUNED, judge=judge)(seen)
    assert (rate.effect, rate.p) == (0, 1)
    assert rate.interval[0] == pytest.approx(-rate.interval[1])
    assert rate.interval[0] < 0


def test_a_pairwise_judges_difference_is_twice_the_win_rate():
    asked = prompts(50)
    seen = view(asked, base=followers(asked, 0.5, 1), tuned=followers(asked, 0.4, 2))
    one, other = following(BASE, TUNED, judge=Longer())(seen), win_rate(BASE, TUNED, judge=Longer())(seen)
    assert one.effect == pytest.approx(2 * other.effect)


def test_where_every_prompt_differs_by_one_the_interval_is_exact():
    asked = prompts(20)
    seen = view(asked, base=followers(asked, 0, 0), tuned=followers(asked, 1, 0))
    up, down = following(BASE, TUNED, judge=JUDGE)(seen), following(TUNED, BASE, judge=JUDGE)(seen)
    upper = stats.beta.ppf(0.975, 1, 20)  # Clopper and Pearson: none of 20 differs
    assert up.effect == 1
    assert up.interval == pytest.approx((1 - 2 * upper, 1))
    assert down.interval == pytest.approx((-1, -1 + 2 * upper))
    assert up.p == pytest.approx(2 * 0.5**20)
    pairs = prompts(20, per_cluster=2)
    halved = following(BASE, TUNED, judge=JUDGE)(view(pairs, base=followers(pairs, 0, 0), tuned=followers(pairs, 1, 0)))
    assert halved.interval[0] == pytest.approx(1 - 2 * stats.beta.ppf(0.975, 1, 10))


def test_prompts_of_the_task_do_not_count():
    asked = prompts(40)
    learned = answers(asked, ["yes" if p.fields["task"] == "recipe" else "no" for p in asked])
    seen = view(asked, base=followers(asked, 0, 0), single_task_tuned=learned)
    assert following(BASE, SINGLE, judge=JUDGE)(seen).effect == 0.25
    assert not seen.excluded
    outside = following(BASE, SINGLE, judge=JUDGE, leave_out=within("rec*"))(seen)
    assert (outside.effect, outside.n) == (0, 30)
    assert seen.excluded == Counter({"of the task that is left out": 10})
    # without a field, the id decides
    assert [within("p00*")(replace(p, fields={})) for p in (asked[0], asked[11])] == [True, False]


def test_what_is_not_judged_is_counted_and_why():
    asked = (*prompts(30)[:28], replace(prompts(30)[28], verify=None), prompts(30)[29])
    base = followers(asked, 0.2, 1)
    base["p029"] = EvidenceItem(id="p029", left_out="does not fit the context")
    seen = view(asked, base=base, tuned=followers(asked, 0.8, 2))
    assert following(BASE, TUNED, judge=JUDGE)(seen).n == 28
    assert seen.excluded == Counter({"base: does not fit the context": 1, "without a verifier": 1})


def test_nothing_to_judge_is_not_applicable():
    asked = tuple(replace(p, verify=None) for p in prompts(3))
    both = {"base": followers(asked, 0, 0), "tuned": followers(asked, 0, 0)}
    with pytest.raises(NotApplicable, match=r"base and tuned: all 3 prompts are left out \(without a verifier\)"):
        following(BASE, TUNED, judge=JUDGE)(view(asked, **both))
    with pytest.raises(NotApplicable, match="no prompt has both responses"):
        win_rate(BASE, TUNED, judge=JUDGE, leave_out=lambda p: True)(view(asked, **both))
    with pytest.raises(NotApplicable, match=r"evidence of the base checkpoint has no responses \(generation\.rules\)"):
        following(BASE, RULES, judge=JUDGE)(view(asked, **both))
    with pytest.raises(NotApplicable, match="names no single_task_tuned"):
        following(BASE, SINGLE, judge=JUDGE)(view(asked, **both))


# win rate


def test_a_win_rate_without_clusters_has_the_textbooks_wilson_interval():
    asked = prompts(50)
    lengths = np.random.default_rng(0).permutation([2] * 36 + [0] * 14)  # no ties
    seen = view(asked, base=answers(asked, ["x"] * 50), tuned=answers(asked, ["x" * n for n in lengths]))
    found = win_rate(BASE, TUNED, judge=Longer())(seen)
    assert found.effect == pytest.approx(36 / 50 - 0.5)
    assert np.array(found.interval) + 0.5 == pytest.approx(wilson(36, 50))
    assert found.p == pytest.approx(2 * stats.norm.sf((0.72 - 0.5) / math.sqrt(0.25 / 50)))
    assert {name: found.details[name] for name in ("win_rate", "wins", "ties", "losses", "effective_n")} == {
        "win_rate": 0.72, "wins": 36, "ties": 0, "losses": 14, "effective_n": 50
    }  # fmt: skip


def test_prompts_that_always_agree_count_as_one():
    asked, single = prompts(60, per_cluster=3), prompts(20)
    wins = np.random.default_rng(0).permutation([2] * 13 + [0] * 7)
    thrice = view(asked, base=answers(asked, ["x"] * 60), tuned=answers(asked, ["x" * n for n in np.repeat(wins, 3)]))
    once = view(single, base=answers(single, ["x"] * 20), tuned=answers(single, ["x" * n for n in wins]))
    a, b = win_rate(BASE, TUNED, judge=Longer())(thrice), win_rate(BASE, TUNED, judge=Longer())(once)
    # variances over 60 and 20 items differ by their degrees of freedom, 59 / 19 / 3
    assert a.details["effective_n"] == pytest.approx(20 * 60 / 59 * 19 / 20, rel=0.02)  # degrees of freedom
    assert a.interval == pytest.approx(b.interval, abs=0.01)  # the same


def test_wins_all_over_have_an_interval_and_few_clusters_none():
    asked = prompts(20, per_cluster=2)
    seen = view(asked, base=answers(asked, ["x"] * 20), tuned=answers(asked, ["xx"] * 20))
    found = win_rate(BASE, TUNED, judge=Longer())(seen)
    assert np.array(found.interval) + 0.5 == pytest.approx(wilson(10, 10))
    few = prompts(20, per_cluster=5)
    seen = view(few, base=answers(few, ["x"] * 20), tuned=followers(few, 0.5, 0))
    assert np.isnan([*win_rate(BASE, TUNED, judge=JUDGE)(seen).interval]).all()


def test_the_interval_of_the_win_rate_covers_with_clusters():
    # three prompts of a cluster share their fate more often than not; ties as well
    asked, missed = prompts(90, per_cluster=3), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        fate, own = np.repeat(rng.choice(3, 30, p=[0.3, 0.1, 0.6]), 3), rng.choice(3, 90, p=[0.3, 0.1, 0.6])
        wins = np.where(rng.random(90) < 0.7, fate, own)
        seen = view(asked, base=answers(asked, ["x"] * 90), tuned=answers(asked, ["x" * n for n in wins]))
        low, high = win_rate(BASE, TUNED, judge=Longer())(seen).interval
        missed += not low <= 0.15 <= high
    assert missed <= 21  # 5 % of 200, and three standard errors


# repetition


def test_repetition_is_the_share_of_four_grams_seen_before():
    assert repetition(np.array([1, 2, 3])) == 0
    assert repetition(np.arange(50)) == 0
    assert repetition(np.zeros(13, dtype=np.int64)) == 0.9  # ten 4-grams, one of them new
    assert repetition(np.array([1, 2, 3, 4, 1, 2, 3, 4])) == pytest.approx(1 / 5)
    assert repetition(np.zeros(0, dtype=np.int64)) == 0


# style


def test_the_four_features_by_hand():
    style = Style.of(["Mix the eggs.", "Mix the flour, then bake it now."])
    found = style.likeness("Mix the milk.")
    assert found["length"] == pytest.approx((4 / 4 + 4 / 8) / 2)
    assert found["opening"] == 1
    assert found["punctuation"] == pytest.approx(2 / math.sqrt(2**2 + 1))  # two full stops and a comma against one
    assert style.likeness("No")["opening"] == 0
    assert style.likeness("")["punctuation"] == 0
    assert style.likeness("") == {"length": pytest.approx((1 / 4 + 1 / 8) / 2), "opening": 0, "punctuation": 0,
                                  "trigrams": style.likeness("")["trigrams"]}  # fmt: skip
    plain = Style.of(["ab"])
    assert plain.likeness("AB") == {"length": 1, "opening": 1, "punctuation": 1, "trigrams": pytest.approx(1)}
    assert plain.likeness("abc")["trigrams"] == pytest.approx(
        1 / math.sqrt(2 * 3)
    )  # " ab", "ab " and " ab", "abc", "bc "
    with pytest.raises(ValueError, match="one response or more; got none"):
        Style.of([])


def test_weighted_spearman_is_that_of_the_repeated_sample():
    rng = np.random.default_rng(0)
    x, y = rng.integers(6, size=40).astype(float), rng.normal(size=40).round(1)
    weights = rng.integers(4, size=(20, 40))
    found = weighted_spearman(x, y)(weights.astype(float))
    wanted = [stats.spearmanr(np.repeat(x, w), np.repeat(y, w)).statistic for w in weights]
    assert found == pytest.approx(wanted)
    assert weighted_spearman(x, x)(np.ones((1, 40))) == pytest.approx([1])
    one = np.eye(40)[:2]  # a sample of one value has no ranks
    assert np.isnan(weighted_spearman(x, y)(one)).all()
    assert np.isnan(weighted_spearman(np.zeros(40), y)(np.ones((1, 40)))).all()


def faded(strength, seed=0, count=80):
    """Prompts at angles from a domain, and responses in its style the more likely the nearer they are."""
    rng = np.random.default_rng(seed)
    asked = prompts(count, per_cluster=2)
    near = np.repeat(rng.random(count // 2), 2)
    styled = rng.random(count) < 0.5 + strength * (near - 0.5)
    texts = ["Take two eggs, then stir." if s else "the answer of this long question is probably no" for s in styled]
    place = {p.prompt: np.array([n, math.sqrt(1 - n * n)], dtype=np.float32) for p, n in zip(asked, near, strict=True)}
    place["Cook!"] = np.array([1, 0], dtype=np.float32)
    return asked, texts, lambda given: [place.get(text) for text in given]


DOMAIN = [("Cook!", "Take two eggs, then stir."), ("Cook!", "Take some milk, then drink.")]


def test_planted_fading_is_found_and_its_turn_and_none():
    for strength, sign in ((0.9, 1), (-0.9, -1), (0.0, 0)):
        asked, texts, vectors = faded(strength)
        seen = view(asked, single_task_tuned=answers(asked, texts))
        found = style_fades(SINGLE, domain=DOMAIN, vectors=vectors)(seen)
        assert (np.sign(found.interval[0]) + np.sign(found.interval[1])) / 2 == sign
        assert (found.n, found.clusters) == (80, 40)
        assert set(found.details["features"]) == {"length", "opening", "punctuation", "trigrams"}


def test_fading_equals_the_naive_correlation():
    asked, texts, vectors = faded(0.5)
    seen = view(asked, single_task_tuned=answers(asked, texts))
    found = style_fades(SINGLE, domain=DOMAIN, vectors=vectors)(seen)
    near = [vectors([p.prompt])[0] @ np.array([1, 0]) for p in asked]
    style = Style.of([text for _, text in DOMAIN])
    like = [np.mean(list(style.likeness(text).values())) for text in texts]
    assert found.effect == pytest.approx(stats.spearmanr(np.round(near, 6), like).statistic)
    again = style_fades(SINGLE, domain=DOMAIN, vectors=vectors)(seen)
    assert again.interval == found.interval


def test_false_alarms_of_fading_stay_near_the_level():
    alarms = 0
    for seed in range(100):
        asked, texts, vectors = faded(0.0, seed=seed, count=60)
        seen = view(asked, single_task_tuned=answers(asked, texts))
        low, high = style_fades(SINGLE, domain=DOMAIN, vectors=vectors)(seen).interval
        alarms += not low <= 0 <= high
    assert alarms <= 12  # 5 % of 100, and three standard errors


def test_fading_says_what_it_lacks():
    asked, texts, vectors = faded(0.5)
    seen = view(asked, single_task_tuned=answers(asked, texts))
    unknown = style_fades(SINGLE, domain=[("Fly!", "Up.")], vectors=vectors)
    with pytest.raises(ValueError, match="none of the domain's 1 instructions has a vector"):
        unknown(seen)
    blind = style_fades(SINGLE, domain=DOMAIN, vectors=lambda t: [vectors(["Cook!"])[0]] * 2 + [None] * 80)
    with pytest.raises(NotApplicable, match="three prompts or more with a response and a vector; 0"):
        blind(seen)
    assert seen.excluded["no vector of the instruction"] == 80


# figures


def family(count=40):
    asked = prompts(count)
    return view(
        asked, base=followers(asked, 0.1, 1), base__rules=followers(asked, 0.5, 2), tuned=followers(asked, 0.9, 3),
        single_task_tuned=followers(asked, 0.5, 4),
    )  # fmt: skip


def shown(figure, seen):
    """A figure's data, after it went through JSON and the report's drawing."""
    data = json.loads(json.dumps(figure(seen), allow_nan=False))
    (drawn,) = figures.figure_views([data])
    assert drawn["kind"] == data["kind"], drawn["reason"]
    return data


def drawn_kinds():
    return {
        "dots": following_figure(MODELS, judge=JUDGE),
        "curves": length_figure(MODELS),
        "words": responses_figure(MODELS, judge=JUDGE, first="base", second="tuned"),
        "grid": win_matrix_figure(MODELS, judge=JUDGE),
    }


def test_figures_are_drawn_by_the_report_and_count_nothing():
    seen = family()
    for kind, figure in drawn_kinds().items():
        assert shown(figure, seen)["kind"] == kind
    assert shown(ended_figure(MODELS), seen)["kind"] == "curves"
    assert not seen.excluded


def test_figures_without_siblings_show_the_others():
    seen = family()
    only = view(seen.prompts, base=seen.items("base", "generation"))
    for figure in drawn_kinds().values():
        figure(only)
    assert [row["label"] for row in shown(following_figure(MODELS, judge=JUDGE), only)["rows"]] == ["base"]
    assert [s["label"] for s in shown(length_figure(MODELS), only)["series"]] == ["base"]
    assert win_matrix_figure(MODELS, judge=JUDGE)(only) is None
    assert responses_figure(MODELS, judge=JUDGE, first="base", second="tuned")(only) is None
    empty = view(seen.prompts)
    assert [figure(empty) for figure in (*drawn_kinds().values(), ended_figure(MODELS))] == [None] * 5


def test_repetition_per_model_is_the_mean_over_its_responses():
    seen = family()
    rows = shown(repetition_figure(MODELS), seen)["rows"]
    assert [row["label"] for row in rows] == list(MODELS)
    for row, source in zip(rows, MODELS.values(), strict=True):
        shares = [repetition(item.arrays["response_ids"]) for item in seen.items(*source).values()]
        (point,) = row["points"]
        assert point["value"] == pytest.approx(np.mean(shares))
        if np.ptp(shares) > 0:
            half = point["high"] - point["value"]
            assert point["value"] - point["low"] == pytest.approx(half)
            assert half < 3.5 * np.std(shares) / np.sqrt(len(shares))
    assert repetition_figure(MODELS)(view(seen.prompts)) is None


def test_shares_followed_per_model():
    seen = family()
    rows = shown(following_figure(MODELS, judge=JUDGE), seen)["rows"]
    for row, source in zip(rows, MODELS.values(), strict=True):
        (point,) = row["points"]
        count = sum(item.values["response"] == "yes" for item in seen.items(*source).values())
        low, high = wilson(count, 40)
        assert [point[k] for k in ("value", "low", "high", "n")] == pytest.approx([count / 40, low, high, 40])


def test_a_pairwise_judge_shows_wins_against_one_model():
    seen = family()
    data = shown(following_figure(MODELS, judge=Longer()), seen)
    assert [row["label"] for row in data["rows"]] == ["base", "base with rules", "single task"]
    assert data["reference"] == 0.5
    against = shown(following_figure(MODELS, judge=Longer(), against="base"), seen)
    # the longer response is the one that does not follow: base wins often here
    pair = [next(r for r in d["rows"] if r["label"] == name)["points"][0]["value"]
            for d, name in ((data, "base"), (against, "tuned"))]  # fmt: skip
    assert pair[0] == pytest.approx(1 - pair[1])
    assert pair[0] > 0.8


def test_the_matrix_is_antisymmetric_and_its_notes_add_up():
    seen = family()
    data = shown(win_matrix_figure(MODELS, judge=JUDGE), seen)
    values = np.array([[np.nan if v is None else v for v in row] for row in data["values"]])
    assert np.isnan(np.diag(values)).all()
    assert np.nan_to_num(values) == pytest.approx(-np.nan_to_num(values.T))
    at = data["rows"].index("tuned"), data["columns"].index("base")
    assert values[at] == pytest.approx(win_rate(BASE, TUNED, judge=JUDGE)(seen).effect)
    counts = win_rate(BASE, TUNED, judge=JUDGE)(seen).details
    assert data["notes"][at[0]][at[1]] == f"{counts['wins']} won, {counts['ties']} tied, {counts['losses']} lost"
    assert data["notes"][at[1]][at[0]] == f"{counts['losses']} won, {counts['ties']} tied, {counts['wins']} lost"


def test_lengths_and_ends():
    asked = prompts(4)
    base = answers(asked, ["a", "a b", "a b c", "a b c d"])
    base["p003"] = replace(base["p003"], values={"response": "a b c d", "ended": False})
    seen = view(asked, base=base)
    (line,) = shown(length_figure({"base": BASE}), seen)["series"]
    assert line["values"][0] == 1
    assert line["values"][10] == 2.5
    assert line["values"][-1] == 4
    data = shown(ended_figure({"base": BASE}), seen)
    assert data["x"] == [0, 1, 2, 3, 4]
    assert data["series"][0]["values"] == [0, 0.25, 0.5, 0.75, 0.75]  # the last one was cut


def test_a_dozen_prompts_are_chosen_by_rule_and_cut():
    asked = prompts(60)
    base, tuned = followers(asked, 0.3, 1), followers(asked, 0.7, 2)
    base["p000"] = replace(base["p000"], values={"response": "x" * 400, "ended": True})
    seen = view(asked, base=base, tuned=tuned)
    figure = responses_figure({"base": BASE, "tuned": TUNED}, judge=JUDGE, first="base", second="tuned")
    data = shown(figure, seen)
    assert data["columns"] == ["why", "prompt", "base", "tuned"]
    assert Counter(row[0] for row in data["rows"]) == {"gain": 4, "loss": 4, "drawn at random": 4}
    assert len({row[1] for row in data["rows"]}) == 12
    for why, _, one, other in data["rows"]:
        assert (other == "yes") - (one == "yes") == {"gain": 1, "loss": -1}.get(why, (other == "yes") - (one == "yes"))
    assert figure(seen) == data
    assert figure(replace(seen, seed=1))["rows"] != data["rows"]
    one = responses_figure({"base": BASE, "tuned": TUNED}, judge=JUDGE, first="base", second="tuned")(
        replace(seen, prompts=asked[:1])
    )
    assert one["rows"][0][2] == "x" * 300 + "…"


def thinking(items, cut=()):
    """The same responses after four tokens of thoughts each, those of ``cut`` cut while thinking."""
    return {
        i: replace(item, values={**item.values, "thoughts": {"text": "Hm.", "tokens": 4, "ended": i not in cut}})
        for i, item in items.items()
    }


def test_a_response_that_was_cut_while_thinking_has_not_followed_and_is_counted():
    asked = prompts(20)
    told, cut = followers(asked, 0.0, 1), [p.id for p in asked[:5]]
    # By their rule even an empty response would follow.
    rule = {"kind": "regex", "pattern": "^(?!.*blue)"}
    asked = tuple(replace(p, verify=rule) for p in asked)
    seen = view(asked, base=told, tuned=thinking(told, cut))
    found = following(BASE, TUNED, judge=JUDGE)(seen)
    assert found.effect == -0.25
    assert found.details["thinking"] == {"tuned": {"thoughts": 80, "answers": 40, "cut": 5}}
    pairwise = win_rate(BASE, TUNED, judge=Longer())(seen)
    assert (pairwise.details["losses"], pairwise.details["ties"]) == (5, 15)
    both = view(asked, base=thinking(told, cut), tuned=thinking(told, cut))
    assert win_rate(BASE, TUNED, judge=Longer())(both).details["ties"] == 20
    assert "thinking" not in following(BASE, TUNED, judge=JUDGE)(view(asked, base=told, tuned=told)).details


class Nearer(Longer):
    """A pairwise judge that can also score a response by itself: by its length in hundreds of characters."""

    pointwise_unit = "hundreds of characters"
    pointwise_span = (0.0, 10.0)

    def pointwise(self, asked):
        return [len(response) / 100 for _, response in asked]


def test_a_pairwise_judges_effect_is_called_wins_over_the_first():
    """The same base scores by its partner, so that its wins are no share of prompts that it followed."""
    asked = prompts(40)
    base = answers(asked, ["four"] * 40)
    shorter, longer = answers(asked, ["no"] * 40), answers(asked, ["longer"] * 20 + ["no"] * 20)
    against = [following(BASE, TUNED, judge=Longer())(view(asked, base=base, tuned=t)) for t in (shorter, longer)]
    assert [found.arms[0].mean for found in against] == [1.0, 0.5]
    for found in against:
        assert [arm.label for arm in found.arms] == ["base wins", "tuned wins"]
        assert found.unit == "wins over base less losses, a share of prompts"
        assert found.scores == ()
    verified = following(BASE, TUNED, judge=JUDGE)(view(asked, base=base, tuned=longer))
    assert verified.unit is None
    assert [arm.label for arm in verified.arms] == ["base", "tuned"]


def test_a_judge_that_can_score_a_response_alone_does():
    asked = prompts(40)
    seen = view(asked, base=answers(asked, ["four"] * 40), tuned=answers(asked, ["longer"] * 20 + ["no"] * 20))
    found = following(BASE, TUNED, judge=Nearer())(seen)
    assert [(arm.label, round(arm.mean, 6)) for arm in found.scores] == [("base", 0.04), ("tuned", 0.04)]
    assert found.scores[1].values.tolist() == [0.06] * 20 + [0.02] * 20
    assert found.details["pointwise"]["difference"] == pytest.approx(0)
    assert found.details["pointwise"]["unit"] == "hundreds of characters"
    assert found.effect == 0  # twenty wins and twenty losses


def test_cut_while_thinking_has_the_lowest_score_alone():
    asked = prompts(8)
    tuned = answers(asked, ["longer"] * 8)
    tuned["p003"] = replace(tuned["p003"], values={**tuned["p003"].values, "thoughts": {"tokens": 3, "ended": False}})
    found = following(BASE, TUNED, judge=Nearer())(view(asked, base=answers(asked, ["four"] * 8), tuned=tuned))
    assert found.scores[1].values.tolist() == [0.06] * 3 + [0.0] + [0.06] * 4


def test_the_record_names_the_unit_and_keeps_the_scores():
    asked = prompts(40)
    seen = view(asked, base=answers(asked, ["four"] * 40), tuned=answers(asked, ["longer"] * 40))
    found = following(BASE, TUNED, judge=Nearer())(seen)
    made = claim_record(
        FOLLOWS, found, judge(FOLLOWS, found), pair="pair", prompts="set", group="all", level=0.95, family_size=1,
        p_decides=None, expected=None, left_out={},
    )  # fmt: skip
    assert made["unit"] == "wins over base less losses, a share of prompts"
    assert made["scores"]["tuned"]["x"] == [0.06] * 40
    assert made["base"] is None  # its wins are not what the base followed
