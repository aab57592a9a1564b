"""Shares of wins: a planted ranker has 1, random models a half, priors fall out where they should, ceilings keep
intervals."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from scipy import stats

from tuneshift.checkpoints.loading import Checkpoint
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import NotApplicable, View
from tuneshift.measures.draws import draws
from tuneshift.measures.likelihood import likelihood
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.quantities.ranking import SCORES, margins, prior_margins, ranked, ranking_survives, wins
from tuneshift.quantities.ranking_figures import margin_figure, ranking_figure
from tuneshift.report import figures
from tuneshift.store.evidence import EvidenceItem

pytestmark = pytest.mark.numerics

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))


def prompts(count, per_cluster=1):
    return tuple(
        Prompt(
            id=f"p{i:03}", prompt=f"Say {i}.", instruction_spans=(), reference=f"r{i}", cluster=f"c{i // per_cluster}"
        )
        for i in range(count)
    )


def evidence(asked, table, prior=None, *, k=5, seed=0, lengths=None):
    """Items from log p(response | instruction) as a table [instruction, response] and log p(response) [response]."""
    order = {p.id: i for i, p in enumerate(asked)}
    prior = np.zeros(len(asked)) if prior is None else prior
    lengths = np.ones(len(asked), dtype=np.int64) if lengths is None else lengths
    found = {}
    for own, others in draws(asked, k=k, seed=seed).items():
        i, js = order[own], [order[j] for j in others]
        arrays = {"own": np.array(table[i, i]), "others": table[i, js], "swapped": table[js, i],
                  "unconditional": prior[[i, *js]], "lengths": lengths[[i, *js]]}  # fmt: skip
        found[own] = EvidenceItem(id=own, arrays=arrays, values={"others": list(others)})
    return found


def view(asked, level=0.95, **roles):
    return View(pair=PAIR, prompts=asked, items=lambda role, need: roles.get(role), level=level, seed=0,
                evidence_name=lambda role, need: str(id(roles.get(role))))  # fmt: skip


def item(**arrays):
    return EvidenceItem(id="a", arrays={name: np.array(values, dtype=float) for name, values in arrays.items()})


def test_the_four_scores_by_hand():
    one = item(
        own=-5, others=[-4, -8, -5], swapped=[-6, -3, -5.5], unconditional=[-9, -7, -11, -9], lengths=[5, 2, 10, 5]
    )
    assert margins(one, "mean").tolist() == pytest.approx([1, -0.2, 0])  # -1 a token against -2, -0.8 and -1
    assert margins(one, "sum").tolist() == [-1, 3, 0]
    assert margins(one, "pmi").tolist() == [1, 1, 0]  # 4 against 3, 3 and 4
    assert margins(one, "swap").tolist() == [1, -2, 0.5]
    assert [wins(margins(one, s)) for s in SCORES] == pytest.approx([1.5 / 3, 1.5 / 3, 2.5 / 3, 2 / 3])
    assert prior_margins(one, "mean").tolist() == pytest.approx([-1.8 + 3.5, -1.8 + 1.1, 0])
    assert prior_margins(one, "sum").tolist() == [-2, 2, 0]
    with pytest.raises(ValueError, match="one of mean, sum, pmi, swap; got 'raw'"):
        margins(one, "raw")


def test_ties_are_half_a_win_and_missing_comparisons_none():
    close = item(own=0, others=[0, 9e-5, -9e-5, 2e-4, -2e-4, -3e-4], swapped=0, lengths=[1] * 7, unconditional=[0] * 7)
    for score in ("mean", "sum", "pmi"):
        assert margins(close, score).tolist() == pytest.approx([0, 0, 0, -2e-4, 2e-4, 3e-4])  # what sums are exact to
        assert wins(margins(close, score)) == pytest.approx((1.5 + 2) / 6)
    # A mean is exact to what its sum is over its tokens.
    long = item(own=0, others=[-2e-6, -2e-7], swapped=0, lengths=[100, 100, 100], unconditional=[0] * 3)
    assert margins(long, "mean").tolist() == [0, 0]
    long = item(own=0, others=[-2e-4], swapped=0, lengths=[100, 100], unconditional=[0] * 2)
    assert margins(long, "mean").tolist() == pytest.approx([2e-6])
    assert wins(np.array([np.nan, 3.0])) == 1
    assert wins(np.array([np.nan])) is None
    assert wins(np.zeros(0)) is None


def test_quantities_are_means_of_prompt_shares():
    asked, generator = prompts(30), np.random.default_rng(0)
    table = generator.normal(size=(30, 30)) + np.eye(30)
    items = evidence(asked, table)
    for score in SCORES:
        found = ranked("base", score)(view(asked, base=items))
        shares = [wins(margins(items[p.id], score)) for p in asked]
        textbook = stats.ttest_1samp(np.array(shares) - 0.5, 0).confidence_interval(0.95)
        assert found.effect == pytest.approx(np.mean(shares) - 0.5)
        # t's interval, an end moved outwards by the shares' skewness.
        assert textbook.low - 0.05 < found.interval[0] <= textbook.low + 1e-12
        assert textbook.high - 1e-12 <= found.interval[1] < textbook.high + 0.05
        assert [arm.label for arm in found.arms] == ["chance", "base"]
        assert found.details["share"] == pytest.approx(np.mean(shares))
        assert found.details["comparisons"] == 150
        ahead = np.concatenate([margins(items[p.id], score) for p in asked])
        assert found.details["median_margin"] == pytest.approx(np.median(ahead))


def test_prompts_of_a_cluster_count_together():
    asked, generator = prompts(40, per_cluster=4), np.random.default_rng(1)
    cluster = np.repeat(generator.normal(size=10), 4)  # whole clusters win or lose
    table = generator.normal(size=(40, 40)) + np.diag(2 * cluster)
    found = ranked("base", "sum")(view(asked, base=evidence(asked, table)))
    alone = ranked("base", "sum")(view(tuple(replace(p, cluster=None) for p in asked), base=evidence(asked, table)))
    assert (found.n, found.clusters, alone.clusters) == (40, 10, 40)
    assert found.standard_error > 1.3 * alone.standard_error


def test_priors_and_easy_instructions_stay_in_sum_and_swap_and_fall_out_of_pmi():
    """sum holds a response's prior, swap how easy an instruction makes everything; pmi holds neither."""
    asked, generator = prompts(60), np.random.default_rng(2)
    signal = generator.normal(size=(60, 60)) + 2 * np.eye(60)
    prior, ease = 30 * generator.normal(size=60), 30 * generator.normal(size=60)

    def shares(table):
        base = evidence(asked, table, prior)
        return {s: ranked("base", s)(view(asked, base=base)).details for s in SCORES}

    with_prior, with_ease = shares(signal + prior[None, :]), shares(signal + prior[None, :] + ease[:, None])
    assert with_prior["sum"]["share"] < 0.6
    assert with_prior["sum"]["agrees_with_prior"] > 0.95
    assert with_prior["pmi"]["share"] > 0.85
    assert with_prior["swap"]["share"] > 0.85
    assert abs(with_prior["pmi"]["agrees_with_prior"] - 0.5) < 0.1
    assert with_ease["swap"]["share"] < 0.6
    assert with_ease["pmi"]["share"] == pytest.approx(with_prior["pmi"]["share"])


def test_lengths_decide_the_sum_and_not_the_mean():
    """One advantage a token, responses of 5 to 200 tokens: the sum sees who is short, the mean who is right."""
    asked, generator = prompts(120), np.random.default_rng(6)
    lengths = generator.integers(5, 200, size=120)
    per_token = -2 + 0.2 * generator.normal(size=(120, 120)) + 0.3 * np.eye(120)
    base = evidence(asked, per_token * lengths[None, :], lengths=lengths)
    assert ranked("base", "sum")(view(asked, base=base)).details["share"] < 0.6
    assert ranked("base", "mean")(view(asked, base=base)).details["share"] > 0.8


@pytest.mark.parametrize(("prior", "per_cluster"), [(0.0, 1), (3.0, 1), (0.0, 3)])
def test_intervals_cover_a_half_where_nothing_relates_instruction_and_response(prior, per_cluster):
    """Comparisons share responses, so prompts are not quite independent; the intervals must not be too narrow."""
    asked, generator = prompts(36, per_cluster), np.random.default_rng(3)
    missed = Counter()
    for seed in range(120):
        own = prior * generator.normal(size=36)
        items = evidence(asked, generator.normal(size=(36, 36)) + own[None, :], own, seed=seed)
        for score in SCORES:
            low, high = ranked("base", score)(view(asked, base=items)).interval
            missed[score] += not low <= 0 <= high
    # 6 of 120 expected at 95 %; 13 or more has a probability of under 1 %.
    assert max(missed[s] for s in SCORES) < 13


def test_where_everyone_wins_the_interval_is_exact():
    asked = prompts(24, per_cluster=2)
    for sign in (1, -1):
        items = evidence(asked, sign * np.eye(24), k=3)
        found = ranked("base", "sum")(view(asked, level=0.9, base=items))
        assert found.effect == sign * 0.5
        exact = stats.binomtest(12, 12).proportion_ci(0.9, method="exact").low  # 12 clusters
        low, high = sorted(sign * x for x in found.interval)
        assert (low, high) == pytest.approx((exact - 0.5, 0.5))
        assert found.p == pytest.approx(stats.binomtest(12, 12).pvalue)
    # All at chance: those that were not asked may lie half the range away, either way.
    halves = evidence(asked, np.zeros((24, 24)))
    reach = 0.5 * (1 - 0.025 ** (1 / 12))
    assert ranked("base", "sum")(view(asked, base=halves)).interval == pytest.approx((-reach, reach))
    none = ranked("base", "sum")(view((), base={}))
    assert none.n == 0
    assert all(map(math.isnan, none.interval))


def test_survival_is_the_paired_difference_over_comparisons_that_both_have():
    asked, generator = prompts(30), np.random.default_rng(4)
    table = generator.normal(size=(30, 30)) + np.eye(30)
    base, tuned = evidence(asked, table), evidence(asked, table + 0.5 * np.eye(30))
    found = ranking_survives()(view(asked, base=base, tuned=tuned))
    shares = {r: [wins(margins(i[p.id], "mean")) for p in asked] for r, i in (("base", base), ("tuned", tuned))}
    assert found.effect == pytest.approx(np.mean(shares["tuned"]) - np.mean(shares["base"])) != 0
    assert [arm.label for arm in found.arms] == ["base", "tuned"]
    assert ranking_survives()(view(asked, base=base, tuned=base)).interval == (0, 0)
    # A comparison that only one of them could make counts for neither; a prompt with none left is left out.
    first, second = base["p000"], base["p001"]
    lost = np.where(margins(first, "sum") < 0, np.nan, first.arrays["others"])
    nothing = np.full(5, np.nan)
    short = {
        **base,
        "p000": replace(first, arrays={**first.arrays, "others": lost}),
        "p001": replace(second, arrays={**second.arrays, "others": nothing}),
    }
    assert 0 < np.isnan(lost).sum() < 5
    seen = view(asked, base=base, tuned=short)
    found = ranking_survives()(seen)
    assert found.effect == 0
    assert found.n == 29
    assert seen.excluded == {"no comparison that fits the context": 1}


def test_prompts_left_out_are_counted_by_their_reason():
    asked = prompts(20)
    items = evidence(asked, np.eye(20))
    items["p003"] = EvidenceItem(id="p003", left_out="it has no reference response")
    no_prior = {
        i: e if e.left_out else replace(e, arrays={**e.arrays, "unconditional": np.full(6, np.nan)})
        for i, e in items.items()
    }
    seen = view(asked, base=items)
    assert ranked("base", "sum")(seen).n == 19
    assert seen.excluded == {"base: it has no reference response": 1}
    seen = view(asked, base=no_prior)
    assert ranked("base", "pmi")(seen).n == 0
    assert seen.excluded["no unconditional likelihood, or no comparison that fits the context"] == 19
    assert math.isnan(ranked("base", "sum")(view(asked, base=no_prior)).details["agrees_with_prior"])


def test_recorded_evidence_has_no_likelihoods():
    for quantity in (ranked("tuned", "mean"), ranking_survives()):
        with pytest.raises(NotApplicable, match="has no likelihoods of responses"):
            quantity(view(prompts(3)))
    assert ranking_figure("base")(view(prompts(3))) is None
    assert margin_figure("base")(view(prompts(3))) is None


def test_figures_hold_what_the_quantities_say_and_the_report_can_draw_them():
    asked, generator = prompts(30), np.random.default_rng(5)
    table = generator.normal(size=(30, 30)) + np.eye(30)
    items = {"base": evidence(asked, table), "tuned": evidence(asked, table + 99 * np.eye(30))}
    for role in items:
        items[role]["p003"] = EvidenceItem(id="p003", left_out="too long")
    seen = view(asked, **items)
    seen.excluded["other"] = 1
    dots, curves = ranking_figure("base", "tuned")(seen), margin_figure("base", "tuned")(seen)
    assert seen.excluded == {"other": 1}  # figures count nothing twice
    assert (dots["kind"], curves["kind"]) == ("dots", "curves")
    assert figures.dots(dots)["table"]
    assert figures.curves(curves)["table"]
    for figure in (dots, curves):
        assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    assert [row["label"] for row in dots["rows"]] == list(SCORES)
    for row in dots["rows"]:
        found = ranked("base", row["label"])(view(asked, **items))
        base, tuned = row["points"]
        assert (base["label"], base["n"]) == ("base", 29)
        assert base["value"] == pytest.approx(found.details["share"])
        assert (base["low"], base["high"]) == pytest.approx(tuple(0.5 + x for x in found.interval))
        assert tuned["value"] == 1
        assert tuned["high"] == 1
    raw = np.concatenate([margins(i, "sum") for i in items["base"].values() if not i.left_out])
    line = next(s for s in curves["series"] if s["label"] == "base, sum")
    assert line["values"][0] == raw.min()
    assert line["values"][10] == pytest.approx(np.median(raw))
    assert line["values"][-1] == raw.max()
    assert len(line["values"]) == len(curves["x"])


# Models


def planted(tokenizer) -> Checkpoint:
    """A Llama that predicts, by construction, the bytes of its context in proportion to their number.

    Embeddings are one-hot, attention is even over the past (queries are zero) and copies, the head reads it out.
    """
    size = len(tokenizer)
    config = transformers.LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=96, bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    layer = model.model.layers[0]
    for weight in (model.model.embed_tokens.weight, layer.self_attn.v_proj.weight, layer.self_attn.o_proj.weight):
        weight.copy_(torch.eye(size))
    for weight in (layer.self_attn.q_proj.weight, layer.mlp.down_proj.weight):
        weight.zero_()
    model.lm_head.weight.copy_(torch.eye(size))
    return checkpoint_of(model, tokenizer)


def checkpoint_of(model, tokenizer) -> Checkpoint:
    return Checkpoint(
        ref=ModelRef(name="m", model="m"), model=model.eval().requires_grad_(False), tokenizer=tokenizer,
        device=torch.device("cpu"), dtype="float32", context_length=96, parameters=model.num_parameters(),
    )  # fmt: skip


def measured(checkpoint, asked):
    population = [[p.id, p.prompt, p.reference, p.cluster] for p in asked]
    taking = likelihood(checkpoint, {"chat_template": None, "k": 5, "seed": 0}, {"population": population})
    return {item.id: item for item in taking(asked, [None] * len(asked))}


def test_a_planted_ranker_wins_every_comparison(make_checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint("planted"))
    letters = "abcdefghijklmnop"
    asked = tuple(Prompt(id=c, prompt=c * 9, instruction_spans=(), reference=c * 4) for c in letters)
    items = measured(planted(tokenizer), asked)
    for score in SCORES:
        found = ranked("base", score)(view(asked, base=items))
        assert found.details["share"] == 1
        assert found.interval[0] > 0
        assert found.details["median_margin"] > 1
    # Where no response has a letter of any prompt that it is compared on, the same model cannot tell: all are ties.
    turned = tuple(replace(p, reference=letters[i - 8] * 4, cluster=letters[i % 8]) for i, p in enumerate(asked))
    items = measured(planted(tokenizer), turned)
    assert [ranked("base", score)(view(turned, base=items)).details["share"] for score in SCORES] == [0.5] * 4


def test_random_models_rank_at_chance(make_checkpoint):
    generator = np.random.default_rng(0)

    def text(length):
        return "".join(generator.choice(list("abcdefghijklmnopqrstuvwxyz "), size=length)).strip() or "a"

    asked = tuple(
        Prompt(id=f"p{i:02}", prompt=text(generator.integers(8, 30)), instruction_spans=(),
               reference=text(generator.integers(2, 20))) for i in range(40)
    )  # fmt: skip
    for seed in range(3):
        folder = make_checkpoint("random", seed=seed)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        items = measured(checkpoint_of(model, transformers.AutoTokenizer.from_pretrained(folder)), asked)
        for score in SCORES:
            found = ranked("base", score)(view(asked, level=0.99, base=items))
            assert found.interval[0] <= 0 <= found.interval[1], (seed, score)
            assert found.interval[1] - found.interval[0] < 0.5
        # Responses of 2 to 20 bytes: the sum is the short ones' game.
        assert ranked("base", "sum")(view(asked, base=items)).details["agrees_with_prior"] > 0.9
