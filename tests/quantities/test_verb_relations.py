"""Verb relations: counts and rates against their definitions, and planted effects through the whole measure."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneshift.checkpoints.refs import Layer, ModelRef
from tuneshift.claims.finding import Finding, Outcome
from tuneshift.claims.verdict import judge
from tuneshift.claims.view import NotApplicable, View
from tuneshift.measures.relations import relations
from tuneshift.pairs import ModelPair
from tuneshift.quantities.verb_figures import head_map_figure, verb_dots_figure
from tuneshift.quantities.verb_relations import (
    gain_over_all_verbs,
    gain_over_heads,
    gain_slope,
    instruction_verbs_gain,
    relation_hits,
    relations_change,
    shared_pairs,
    verb_counts,
    win_rates,
)
from tuneshift.store.evidence import EvidenceItem
from tuneshift.words.vocabulary import general_verbs, instruction_verbs

INSTRUCTION = list(instruction_verbs()[:16])
GENERAL = list(general_verbs()[:80])
"""Five for each instruction verb, so that there are four where tuning did not change all."""
NOUNS = [f"noun{i}" for i in range(96)]
WORDS = [*INSTRUCTION, *GENERAL, *NOUNS, *(f"filler{i}" for i in range(96))]
PARTNER = dict(zip([*INSTRUCTION, *GENERAL], NOUNS, strict=True))
LAYERS, HEADS, D_HEAD, D_MODEL = 8, 4, 32, 128
DRAWN, PLANTED = 4, 12
"""Verbs of a head, two neurons each: by chance, and planted beside them."""


def item_of(neurons, *, words=WORDS, heads=HEADS, index=0):
    """An item from {(head, neuron): [(key word, query word)]}; scores fall with the pair's place in its neuron."""
    counts, pairs, scores = np.zeros((heads, D_HEAD), dtype=np.int32), [], []
    for head, neuron in np.ndindex(heads, D_HEAD):
        found = neurons.get((head, neuron), [])
        counts[head, neuron] = len(found)
        pairs += [(words.index(k), words.index(q)) for k, q in found]
        scores += [0.9 - 0.01 * i for i in range(len(found))]
    return EvidenceItem(
        id=Layer(index=index).id,
        arrays={"pairs": np.array(pairs, dtype=np.int32).reshape(-1, 2), "scores": np.array(scores, dtype=np.float32),
                "counts": counts},
        values={"words": list(words), "left_out": {}},
    )  # fmt: skip


def random_item(seed, index=0):
    rng = np.random.default_rng(seed)
    neurons = {}
    for cell in np.ndindex(HEADS, D_HEAD):
        drawn = {tuple(rng.choice(24, size=2, replace=False)) for _ in range(rng.integers(0, 30))}
        neurons[cell] = [(WORDS[k], WORDS[q]) for k, q in drawn]
    return item_of(neurons, index=index)


def view_of(base, tuned, level=0.95):
    sides = {"base": base, "tuned": tuned}

    def items(role, need):
        assert need == "relations"
        return None if sides[role] is None else {item.id: item for item in sides[role]}

    pair = ModelPair(name="p", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
    return View(pair=pair, prompts=(), items=items, level=level, seed=7)


@pytest.mark.parametrize("min_neurons", [1, 2, 3])
def test_counts_equal_the_naive_definition(min_neurons):
    item, verbs = random_item(1), [*INSTRUCTION[:5], "absent", *WORDS[20:24]]
    neurons = defaultdict(set)
    place = iter(item.arrays["pairs"].tolist())
    for (head, neuron), count in np.ndenumerate(item.arrays["counts"]):
        for _ in range(count):
            k, q = next(place)
            neurons[head, WORDS[k], WORDS[q]].add(neuron)
    expected = np.zeros((HEADS, len(verbs)), dtype=int)
    for (head, key, query), found in neurons.items():
        if len(found) >= min_neurons:
            for column, verb in enumerate(verbs):
                expected[head, column] += verb in (key, query)
    counts = verb_counts(item, verbs, min_neurons=min_neurons)
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() > 0
    assert (counts[:, 5] == 0).all()


def test_a_pair_and_its_reverse_are_two_and_neurons_of_other_heads_do_not_add_up():
    a, b = INSTRUCTION[0], GENERAL[0]
    item = item_of({(0, 0): [(a, b), (b, a)], (0, 3): [(a, b), (b, a)], (1, 0): [(a, b)], (2, 0): [(a, b)]})
    assert verb_counts(item, [a, b]).tolist() == [[2, 2], [0, 0], [0, 0], [0, 0]]
    assert verb_counts(item, [a, b], min_neurons=1).tolist() == [[2, 2], [1, 1], [1, 1], [0, 0]]
    assert verb_counts(item_of({}), [a]).tolist() == [[0]] * HEADS
    with pytest.raises(ValueError, match="at least 1; got 0"):
        shared_pairs(item, min_neurons=0)


@pytest.mark.numerics
def test_win_rates_are_shares_of_the_changed_heads():
    base = np.array([[1, 0, 2], [1, 5, 2], [1, 5, 2]])
    tuned = np.array([[2, 1, 2], [0, 6, 2], [1, 7, 2]])
    np.testing.assert_array_equal(win_rates(base, tuned), [0.5, 1.0, np.nan])
    # Exchanging base and tuned exchanges gains and losses.
    np.testing.assert_allclose(win_rates(base, tuned) + win_rates(tuned, base), [1, 1, np.nan])


def test_hits_are_the_pairs_that_hold_a_verb_in_any_neuron_of_any_head():
    a, b = INSTRUCTION[0], GENERAL[0]
    item = item_of({(0, 0): [(a, b), (b, NOUNS[0])], (0, 3): [(a, b)], (1, 0): [(NOUNS[0], a)]})
    assert relation_hits(item, [a, b, "absent", NOUNS[1]]).tolist() == [3, 3, 0, 0]


@pytest.mark.numerics
def test_the_relative_change_is_its_definition_and_keeps_verbs_that_no_head_counts_as_changed():
    """A pair that one more neuron finds in a head which had it in two: counted, nothing has changed."""
    noun = dict(zip(INSTRUCTION, NOUNS, strict=False))
    before = {(0, n): [(v, noun[v]) for v in INSTRUCTION] + [(v, NOUNS[20]) for v in GENERAL] for n in (0, 1)}
    after = {**before, (0, 2): [(v, noun[v]) for v in INSTRUCTION]}
    counted = instruction_verbs_gain()(view_of([item_of(before)], [item_of(after)]))
    assert counted.n == 0
    found = relations_change()(view_of([item_of(before)], [item_of(after)]))
    assert found.effect == pytest.approx((3 - 2) / (3 + 2))
    assert found.n == len(INSTRUCTION)
    assert [arm.label for arm in found.arms] == ["general verbs", "instruction verbs"]
    turned = relations_change()(view_of([item_of(after)], [item_of(before)]))
    assert turned.effect == pytest.approx(-found.effect)
    same = relations_change()(view_of([item_of(after)], [item_of(after)]))
    assert same.effect == 0.0


# -- planted effects, through the real measure ------------------------------------------------------------------------


def word_space(folder):
    """One token per word; a space in which each verb resembles its own noun and nothing else."""
    rng = np.random.default_rng(2)
    vectors = dict(zip(WORDS, rng.normal(size=(len(WORDS), 40)), strict=True))
    for verb, noun in PARTNER.items():
        vectors[noun] = vectors[verb] + 0.3 * rng.normal(size=40)
    np.savez(folder / "s.npz", words=np.array(WORDS), vectors=np.stack(list(vectors.values())).astype(np.float32))
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *WORDS])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    return tokenizer, {"vocabulary": str(folder / "s.npz"), "word_vectors": str(folder / "s.npz")}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return word_space(tmp_path_factory.mktemp("space"))


CELLS = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]


def model_of(seed):
    """A checkpoint whose heads relate verbs of both kinds, `DRAWN` each, drawn by the seed; the rest is the same.

    Two seeds are a pair in which tuning moved relations about and favoured no kind.
    """
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 8, hidden_size=D_MODEL, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=D_HEAD, initializer_range=1.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).requires_grad_(False)
    rng = np.random.default_rng(seed)
    for cell in CELLS:
        write(model, cell, 0, rng.choice([*INSTRUCTION, *GENERAL], size=DRAWN, replace=False))
    return model


def write(model, cell, start, verbs):
    """Writes each verb with its noun into two neurons of a head: the query map answers to the verb, the key map to
    the noun."""
    table = model.get_input_embeddings().weight
    row = {word: table[i + 1] for i, word in enumerate(WORDS)}
    attention = model.model.layers[cell[0]].self_attn
    for i, verb in enumerate(verbs):
        for neuron in range(start + 2 * i, start + 2 * i + 2):
            attention.q_proj.weight[cell[1] * D_HEAD + neuron] = row[verb]
            attention.k_proj.weight[cell[1] * D_HEAD + neuron] = row[PARTNER[verb]]


def plant(model, verbs, cells):
    """More verbs into each of the cells, in turn, beside what the model relates already."""
    for turn, cell in enumerate(cells):
        write(model, cell, 2 * DRAWN, [verbs[(PLANTED * turn + i) % len(verbs)] for i in range(PLANTED)])
    return model


def measure(model, words, dtype=torch.float32):
    tokenizer, sources = words
    checkpoint = SimpleNamespace(model=model.to(dtype), tokenizer=tokenizer, ref=SimpleNamespace(name="tiny"))
    params = {"top": 12, "z": 1.96, "frequent": 3000, "vocabulary": "", "word_vectors": {}}
    return list(relations(checkpoint, params, sources)([Layer(index=i) for i in range(LAYERS)], [None] * LAYERS))


@pytest.fixture(scope="module")
def base(words):
    return measure(model_of(1), words)


@pytest.fixture(scope="module")
def drifted(words):
    return measure(model_of(2), words)


@pytest.fixture(scope="module")
def instructed(words):
    return measure(plant(model_of(2), INSTRUCTION, CELLS), words)


@pytest.fixture(scope="module")
def generalised(words):
    return measure(plant(model_of(2), GENERAL, CELLS), words)


def finding(direction="greater"):
    return Finding(id="x", title="", claim="", source="", direction=direction, unit="", sesoi=0.05, sesoi_reason="",
                   how="", needs=(), items="verbs")  # fmt: skip


def outcome(statistic, direction="greater"):
    return judge(finding(direction), statistic).outcome


QUANTITIES = {"verbs": instruction_verbs_gain(), "all verbs": gain_over_all_verbs(), "heads": gain_over_heads()}


@pytest.mark.parametrize("name", QUANTITIES)
def test_planted_instruction_verbs_are_found(name, base, instructed):
    found = QUANTITIES[name](view_of(base, instructed))
    assert [arm.label for arm in found.arms] == ["general verbs", "instruction verbs"]
    assert found.effect > 0.2
    assert outcome(found) is Outcome.REPRODUCED


@pytest.mark.parametrize("name", QUANTITIES)
def test_planted_general_verbs_do_not_pass_for_instruction_verbs(name, base, generalised):
    found = QUANTITIES[name](view_of(base, generalised))
    assert found.effect < -0.2
    # A head takes up twelve of eighty general verbs: eight layers leave the third reading open.
    assert outcome(found) is (Outcome.INCONCLUSIVE if name == "heads" else Outcome.CONTRADICTED)


@pytest.mark.parametrize("name", [*QUANTITIES, "slope"])
def test_tuning_that_moves_relations_about_reproduces_nothing(name, base, drifted):
    found = {**QUANTITIES, "slope": gain_slope()}[name](view_of(base, drifted))
    assert found.n >= (LAYERS if name == "slope" else 14)
    assert np.isfinite(found.interval).all()
    for direction in ("greater", "less"):
        assert outcome(found, direction) is not Outcome.REPRODUCED


@pytest.mark.parametrize("name", [*QUANTITIES, "slope"])
def test_identical_weights_reproduce_nothing(name, base, words):
    again = measure(model_of(1), words)
    quantity = {**QUANTITIES, "slope": gain_slope()}[name]
    view = view_of(base, again)
    found = quantity(view)
    assert found.n == 0
    assert np.isnan(found.interval).all()
    for direction in ("greater", "less"):
        assert outcome(found, direction) is Outcome.INCONCLUSIVE
    assert sum(view.excluded.values()) >= 32
    assert verb_dots_figure(view) is None
    assert not np.any(head_map_figure(view)["values"])


def test_too_few_general_verbs_to_match_are_inconclusive_and_the_number_that_it_takes_is_said():
    """31 general verbs for eight instruction verbs, all of which changed."""
    verbs = [*INSTRUCTION[:8], *GENERAL[:31]]
    tuned = [item_of({(h, n): [(verb, NOUNS[0]) for verb in verbs] for h in range(HEADS) for n in (0, 1)})]
    verdict = judge(finding(), instruction_verbs_gain()(view_of([item_of({})], tuned)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == (
        "No interval can be given: 8 instruction verbs choose their matches among 31 general verbs; it takes 32."
    )


def test_one_verb_or_none_changed_is_inconclusive(base):
    # One verb gained in every head of one arm, nothing in the other: no general verb to compare with.
    tuned = [item_of({(h, n): [(INSTRUCTION[0], GENERAL[0])] for h in range(HEADS) for n in (0, 1)})]
    found = instruction_verbs_gain()(view_of([item_of({})], tuned))
    assert found.n == 1
    assert outcome(found) is Outcome.INCONCLUSIVE


def test_items_are_verbs_with_their_win_rates(base, instructed):
    view = view_of(base, instructed)
    found = instruction_verbs_gain()(view)
    verbs = [*INSTRUCTION, *GENERAL]
    counts = [np.concatenate([verb_counts(item, verbs) for item in side]) for side in (base, instructed)]
    expected = dict(zip(verbs, win_rates(*counts), strict=True))
    for arm, kind in zip(found.arms, (GENERAL, INSTRUCTION), strict=True):
        assert set(arm.ids) <= {v for v in kind if np.isfinite(expected[v])}
        np.testing.assert_array_equal(arm.values, [expected[i] for i in arm.ids])
    every = gain_over_all_verbs()(view_of(base, instructed))
    for arm, kind in zip(every.arms, (GENERAL, INSTRUCTION), strict=True):
        assert list(arm.ids) == [v for v in kind if np.isfinite(expected[v])]
    # Less than eight general verbs for each instruction verb: one control for each.
    assert found.n == len(every.arms[1].ids) == len(found.arms[0].ids) == len(found.arms[1].ids)
    still = {k: v for k, v in view.excluded.items() if "no head gained or lost it" in k}
    assert sum(still.values()) + sum(len(a.ids) for a in every.arms) == len(verbs)


def test_instruction_verbs_are_compared_with_general_verbs_as_frequent():
    """The evidence's words stand by frequency: of eight general verbs the two that stand nearest."""
    words = [f"filler{k}" for k in range(90)]
    places = {10: INSTRUCTION[0], **dict(zip((1, 8, 12, 40, 50, 60, 70, 80), GENERAL[:8], strict=True))}
    for place, verb in places.items():
        words[place] = verb
    changed = {(0, neuron): [(verb, "filler0") for verb in places.values()] for neuron in (0, 1)}
    found = instruction_verbs_gain()(view_of([item_of({}, words=words)], [item_of(changed, words=words)]))
    assert [arm.ids for arm in found.arms] == [(GENERAL[1], GENERAL[2]), (INSTRUCTION[0],)]


def test_quarters_see_their_own_layers_only(base, drifted, words):
    lower = measure(plant(model_of(2), INSTRUCTION, [c for c in CELLS if c[0] < 2]), words)
    first = instruction_verbs_gain((0.0, 0.25))
    assert first(view_of(base, lower)).effect > first(view_of(base, drifted)).effect + 0.1
    for start in (0.25, 0.5, 0.75):
        quarter = instruction_verbs_gain((start, start + 0.25))
        mine, other = quarter(view_of(base, lower)).arms, quarter(view_of(base, drifted)).arms
        assert [arm.ids for arm in mine] == [arm.ids for arm in other]
        assert [arm.values.tolist() for arm in mine] == [arm.values.tolist() for arm in other]
    with pytest.raises(ValueError, match=r"layers are a share \[start, stop\).*got \(0.5, 0.5\)"):
        instruction_verbs_gain((0.5, 0.5))


@pytest.mark.numerics
def test_slope_is_negative_where_lower_layers_gain_most_and_positive_where_upper_do(base, words):
    half = LAYERS // 2
    low, high = [c for c in CELLS if c[0] < half], [c for c in CELLS if c[0] >= half]
    for verbs_low, verbs_high, direction in ((INSTRUCTION, GENERAL, "less"), (GENERAL, INSTRUCTION, "greater")):
        tuned = measure(plant(plant(model_of(2), verbs_low, low), verbs_high, high), words)
        found = gain_slope()(view_of(base, tuned))
        assert abs(found.effect) > 0.1
        assert (found.effect < 0) == (direction == "less")
        assert outcome(found, direction) is Outcome.INCONCLUSIVE  # of eight layers
        assert found.n == found.clusters == sum(len(arm.ids) for arm in found.arms) == LAYERS
        assert [arm.label for arm in found.arms] == [f"quarter {q}" for q in (1, 2, 3, 4)]
        x = np.repeat(np.arange(4.0), [len(arm.ids) for arm in found.arms])
        y = np.concatenate([arm.values for arm in found.arms])
        np.testing.assert_allclose(found.effect, stats.linregress(x, y).slope)
        assert [arm.ids for arm in found.arms] == [(f"layer.{2 * q}", f"layer.{2 * q + 1}") for q in range(4)]


@pytest.mark.numerics
@pytest.mark.parametrize("heads", [1, 4])
def test_a_slope_over_many_layers_is_decided_and_more_heads_that_agree_make_it_no_surer(heads):
    rng, layers = np.random.default_rng(3), 24
    sides = ([], [])
    for index in range(layers):
        gained = set(rng.permutation(16)[: 15 - 3 * (index * 4 // layers) - int(rng.integers(2))].tolist())
        for side, keeps in zip(sides, (False, True), strict=True):
            pairs = [(NOUNS[k], INSTRUCTION[k]) for k in range(16) if (k in gained) == keeps]
            neurons = {(head, neuron): pairs for head in range(heads) for neuron in (0, 1)}
            side.append(item_of(neurons, heads=heads, index=index))
    found = gain_slope()(view_of(*sides, level=0.975))
    # drawn verbs: about one of a dozen may fall otherwise
    assert found.effect == pytest.approx(-2 * 3 / 16, abs=0.05)
    assert outcome(found, "less") is Outcome.REPRODUCED
    assert (found.n, found.clusters) == (layers, layers)
    reversed_ = gain_slope()(view_of(*reversed(sides), level=0.975))
    assert reversed_.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    one = gain_slope()(view_of(*([item_of({}, heads=1, index=k) for k in range(layers)] for _ in range(2))))
    assert one.n == 0


@pytest.mark.numerics
def test_heads_of_a_layer_are_no_layers_of_their_own(base, words):
    """A few more heads that say the same do not make a slope surer."""
    low = [c for c in CELLS if c[0] < LAYERS // 2]
    tuned = measure(plant(model_of(2), INSTRUCTION, low), words)
    heads, slope = gain_over_heads()(view_of(base, tuned)), gain_slope()(view_of(base, tuned))
    assert (slope.clusters, heads.clusters, heads.n) == (LAYERS, LAYERS, LAYERS * HEADS)
    # A layer's value is the mean of its heads'.
    score = dict(zip(heads.arms[0].ids, heads.arms[1].values - heads.arms[0].values, strict=True))
    for arm in slope.arms:
        for i, value in zip(arm.ids, arm.values, strict=True):
            assert value == pytest.approx(np.mean([x for head, x in score.items() if head.startswith(f"{i}.")]))


def test_half_precision_finds_the_planted_verbs_too(words):
    tuned = measure(plant(model_of(2), INSTRUCTION, CELLS), words, torch.bfloat16)
    found = instruction_verbs_gain()(view_of(measure(model_of(1), words, torch.bfloat16), tuned))
    assert outcome(found) is Outcome.REPRODUCED


def test_head_gain_is_the_mean_sign_over_changed_verbs():
    verb, other, walk, noun = INSTRUCTION[0], INSTRUCTION[1], GENERAL[0], NOUNS[0]

    def both(*pairs):
        return {(0, n): [(noun, p) for p in pairs] for n in (0, 1)}

    before = item_of(both(other, walk), heads=2)
    after = item_of(both(verb), heads=2)  # gains one instruction verb, loses one and a general one
    view = view_of([before], [after])
    found = gain_over_heads()(view)
    assert found.arms[0].ids == ("layer.0.head.0",)
    assert (found.arms[0].values.tolist(), found.arms[1].values.tolist()) == ([-1.0], [0.0])
    assert view.excluded == Counter({"heads in which no verb changed": 1})


def test_evidence_that_cannot_be_compared_is_not_applicable(base):
    fewer = item_of({}, words=WORDS[:-1])
    for wrong, message in (
        (None, "no head relations"),
        ([fewer, *base[1:]], r"different words to compare \(288 of the vocabulary for the base, 287 for the tuned"),
        (base[:-1], "the base has 8 layers and the tuned model 7"),
        ([item_of({}, heads=2), *base[1:]], r"layer.0 has heads and neurons \(4, 32\) in the base and \(2, 32\)"),
    ):
        for quantity in (instruction_verbs_gain(), gain_over_heads(), gain_slope(), verb_dots_figure, head_map_figure):
            with pytest.raises(NotApplicable, match=message):
                quantity(view_of(base, wrong))


def test_a_layer_that_was_left_out_is_passed_over_on_both_sides(base, instructed):
    gone = [EvidenceItem(id="layer.0", left_out="activations of layer 0 are NaN or infinite"), *instructed[1:]]
    view = view_of(base, gone)
    found = instruction_verbs_gain()(view)
    assert view.excluded.pop("activations of layers are NaN or infinite") == 1  # how many layers, not which
    assert set(view.excluded) == {"general verbs: no head gained or lost it"}
    without = instruction_verbs_gain((1 / LAYERS, 1.0))(view_of(base, instructed))
    assert found.effect == without.effect
    figure = head_map_figure(view_of(base, gone))
    assert figure["values"][0] == [None] * HEADS
    assert figure["values"][1] != [None] * HEADS
    assert figure["notes"][0] == ["left out: tuned: activations of layer 0 are NaN or infinite"] * HEADS
    without_attention = [EvidenceItem(id="layer.0", left_out="no attention"), *base[1:]]
    both = head_map_figure(view_of(without_attention, gone))["notes"][0][0]
    assert both == "left out: base: no attention; tuned: activations of layer 0 are NaN or infinite"


def test_head_map_names_gained_and_lost_pairs():
    verb, noun, walk = INSTRUCTION[0], NOUNS[0], GENERAL[0]
    base = [item_of({(0, 0): [(verb, noun), (walk, noun)], (0, 1): [(verb, noun), (walk, noun)]}, index=i)
            for i in range(2)]  # fmt: skip
    many = [(noun, verb), *((n, verb) for n in NOUNS[1:6])]
    tuned = [item_of({(0, 0): many, (0, 1): many, (1, 0): [(verb, noun)]}), base[1]]
    figure = head_map_figure(view_of(base, tuned))
    assert figure["values"] == [[5.0, 0.0, 0.0, 0.0], [0.0] * 4]
    gained = ", ".join(f"+{n}–{verb}" for n in NOUNS[:4])
    assert figure["notes"][0] == [f"{gained}, -{verb}–{noun}", "", "", ""]
    assert (figure["kind"], figure["rows"], figure["columns"]) == ("grid", ["0", "1"], ["0", "1", "2", "3"])


@pytest.mark.numerics
def test_verb_dots_have_rates_intervals_and_the_general_mean(base, instructed):
    view = view_of(base, instructed)
    figure = verb_dots_figure(view)
    general, instruction = gain_over_all_verbs()(view).arms
    assert figure["reference"] == pytest.approx(general.mean)
    shown = {row["label"]: row["points"][0] for row in figure["rows"]}
    assert {label: point["value"] for label, point in shown.items()} == dict(
        zip(instruction.ids, instruction.values.tolist(), strict=True)
    )
    values = [point["value"] for point in shown.values()]
    assert values == sorted(values, reverse=True)
    counts = [np.concatenate([verb_counts(item, list(shown)) for item in side]) for side in (base, instructed)]
    assert [point["n"] for point in shown.values()] == (counts[0] != counts[1]).sum(axis=0).tolist()
    assert all(0 <= p["low"] <= p["value"] <= p["high"] <= 1 for p in shown.values())
    quarter = verb_dots_figure(view, layers=(0.0, 0.25))
    assert quarter["rows"][0]["group"] == "layers 0% to 25%"
    assert max(row["points"][0]["n"] for row in quarter["rows"]) <= 2 * HEADS


def test_the_relative_change_finds_what_was_planted_and_nothing_where_weights_are_the_same(
    base, instructed, generalised, drifted, words
):
    change = relations_change()
    found = change(view_of(base, instructed))
    assert found.effect > 0.2
    assert outcome(found) is Outcome.REPRODUCED
    assert outcome(change(view_of(base, generalised))) is Outcome.CONTRADICTED
    for direction in ("greater", "less"):
        assert outcome(change(view_of(base, drifted)), direction) is not Outcome.REPRODUCED
    same = change(view_of(base, measure(model_of(1), words)))
    assert same.effect == 0.0
    assert not any(np.any(arm.values) for arm in same.arms)
    assert outcome(same) is Outcome.INCONCLUSIVE
