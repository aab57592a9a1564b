"""Planted rotations, replacements and noise in real weights are told apart; layers that cannot be paired are named."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tolerances import rounding

from tuneshift.checkpoints.refs import Layer, ModelRef
from tuneshift.claims.view import NotApplicable, View
from tuneshift.measures.concepts import concepts
from tuneshift.measures.subspaces import chance_match, matched_angles, principal_angles
from tuneshift.pairs import ModelPair
from tuneshift.plain import plain
from tuneshift.quantities.concept_figures import angle_curves_figure, moved_concepts_figure
from tuneshift.quantities.concept_rotation import (
    Rotation,
    leading_directions,
    match_under_noise,
    rotates_knowledge,
    rotation,
)
from tuneshift.store.evidence import EvidenceItem

pytestmark = pytest.mark.numerics

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
LAYERS, D, NEURONS, K = 12, 32, 96, 8
PARAMS = {"concepts": 300, "top": 5, "rotation_k": K, "noise": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]}
WORDS = ("write", "code", "sum", "say", "cat", "verb", "noun", "add", "seven", "no")
SESOI = 0.05
SIZES = 10 * 0.8 ** np.arange(D)
"""Standard deviations of the planted directions, well apart."""
STORED = 2 * (rounding(1) * np.linalg.norm(SIZES) / (0.2 * SIZES[K - 1]) + rounding(D))
"""Radians that single precision turns a direction by, on both sides: what rounding the weights does where the next
direction's size is a fifth less (Wedin's bound), and rounding the direction itself."""


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """Concepts of a 12-layer model with given down-projections [layer][neuron, d_model], written into its weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(WORDS))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=D, intermediate_size=NEURONS, num_hidden_layers=LAYERS, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    checkpoint = SimpleNamespace(
        model=model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend), ref=SimpleNamespace(name="planted")
    )

    def take(weights, **params):
        for layer, weight in zip(model.model.layers, weights, strict=True):
            layer.mlp.down_proj.weight.copy_(torch.from_numpy(weight.T))
        taken = concepts(checkpoint, {**PARAMS, **params}, {"vocabulary": str(path)})
        units = [Layer(index=i) for i in range(LAYERS)]
        return {item.id: item for item in taken(units, [None] * LAYERS)}

    return take


def parts(i):
    """Neurons' scores [neuron, D] (centred, orthonormal), SIZES, directions [D, D]."""
    rng = np.random.default_rng(i)
    u = rng.standard_normal((NEURONS, D))
    u, _ = np.linalg.qr(u - u.mean(axis=0))
    q, _ = np.linalg.qr(rng.standard_normal((D, D)))
    return u, SIZES, q.T


def planted(turn=None):
    """Down-projections with known directions; ``turn(layer, directions)`` says where a tuned copy's directions lie."""
    weights = []
    for i in range(LAYERS):
        u, sizes, q = parts(i)
        weights.append((u * sizes) @ (q if turn is None else turn(i, q)))
    return weights


def within_span(angle):
    """Turn each leading direction by ``angle`` towards its neighbour, in K / 2 planes of the leading span."""

    def turn(i, q):
        found = q.copy()
        c, s = np.cos(angle), np.sin(angle)
        found[0:K:2], found[1:K:2] = c * q[0:K:2] + s * q[1:K:2], c * q[1:K:2] - s * q[0:K:2]
        return found

    return turn


def out_of_span(angle):
    """Turn each leading direction by ``angle`` out of the leading span."""

    def turn(i, q):
        found = q.copy()
        c, s = np.cos(angle), np.sin(angle)
        found[:K], found[K : 2 * K] = c * q[:K] + s * q[K : 2 * K], c * q[K : 2 * K] - s * q[:K]
        return found

    return turn


def replaced(i, q):
    return parts(1000 + i)[2]


def noisy(weights, size, seed=77):
    rng = np.random.default_rng(seed)
    return [w + size * np.sqrt(np.mean(w**2)) * rng.standard_normal(w.shape) for w in weights]


def flat():
    """Plain Gaussian weights: eigenvalues close together, as in a fresh layer."""
    return [np.random.default_rng(500 + i).standard_normal((NEURONS, D)) for i in range(LAYERS)]


def view(base, tuned, level=0.95):
    sides = {("base", "concepts"): base, ("tuned", "concepts"): tuned}
    return View(pair=PAIR, prompts=(), items=lambda role, need: sides[role, need], level=level, seed=0,
                evidence_name=lambda role, need: str(id(sides[role, need])))  # fmt: skip


@pytest.fixture(scope="module")
def base(measure):
    return measure(planted())


def index_of(base, tuned, *, beyond_noise=False):
    return rotates_knowledge(beyond_noise=beyond_noise)(view(base, tuned))


@pytest.mark.parametrize("beyond_noise", [False, True])
def test_identical_weights_have_not_rotated(measure, base, beyond_noise):
    found = index_of(base, base, beyond_noise=beyond_noise)
    assert found.effect == 0
    assert found.interval == (0, 0)
    # Equal layers that were measured apart may differ in a layer that was not seen: the range's bound.
    apart = index_of(base, measure(planted()), beyond_noise=beyond_noise)
    assert apart.effect == 0
    assert apart.interval[0] < 0 < apart.interval[1]
    assert found.n == found.clusters == LAYERS
    assert not found.interval[0] > SESOI


@pytest.mark.parametrize("beyond_noise", [False, True])
def test_a_rotation_within_the_span_is_found(measure, base, beyond_noise):
    found = index_of(base, measure(planted(within_span(np.pi / 4))), beyond_noise=beyond_noise)
    # The span is the same, so noise would have kept every direction; half of each is elsewhere.
    assert found.details["subspace_overlap"] == pytest.approx(1, abs=STORED)
    assert found.effect == pytest.approx(0.5, abs=0.1)  # chance overlap of 8 of 32
    assert found.interval[0] > SESOI


@pytest.mark.parametrize("beyond_noise", [False, True])
def test_replaced_directions_are_no_rotation(measure, base, beyond_noise):
    found = index_of(base, measure(planted(replaced)), beyond_noise=beyond_noise)
    assert found.details["subspace_overlap"] == pytest.approx(0, abs=0.1)  # chance overlap of 8 of 32
    assert found.effect == pytest.approx(0, abs=0.05)  # chance matches of 8 of 32
    assert not found.interval[0] > SESOI


def test_a_random_rotation_of_the_span_has_index_near_1(measure, base):
    def shuffle(i, q):
        found = q.copy()
        found[:K] = np.linalg.qr(np.random.default_rng(i).standard_normal((K, K)))[0] @ q[:K]
        return found

    found = index_of(base, measure(planted(shuffle)))
    # Eight random directions of an eight-dimensional span still match a little.
    assert found.effect > 0.5
    assert found.details["subspace_overlap"] == pytest.approx(1, abs=STORED)


@pytest.mark.parametrize("angle", [1e-4, 0.01, 0.2, 0.7])
def test_a_planted_angle_is_recovered_from_stored_evidence(measure, base, angle):
    tuned = measure(planted(within_span(angle)))
    for i in base:
        a, b = leading_directions(base[i], tuned[i])
        np.testing.assert_allclose(matched_angles(a, b), angle, atol=STORED)
        np.testing.assert_allclose(principal_angles(a, b), 0, atol=STORED)
        # The span is whole and the match cos^2, adjusted for chance.
        expected = np.sin(angle) ** 2 / (1 - chance_match(K, D))
        assert rotation(base[i], tuned[i]).index == pytest.approx(expected, abs=STORED)


@pytest.mark.parametrize("angle", [1e-4, 0.2, 0.7])
def test_an_angle_out_of_the_span_is_recovered_and_no_rotation(measure, base, angle):
    tuned = measure(planted(out_of_span(angle)))
    for i in base:
        np.testing.assert_allclose(principal_angles(*leading_directions(base[i], tuned[i])), angle, atol=STORED)
    # Overlap and match fall alike; at the larger chance level of the overlap, that leaves less of it.
    assert index_of(base, tuned).effect < STORED


def test_noise_alone_has_a_plain_index_but_none_beyond_noise(measure):
    base, tuned = measure(flat()), measure(noisy(flat(), 0.2))
    plain_index, beyond = (index_of(base, tuned, beyond_noise=b) for b in (False, True))
    # Directions of nearly equal variance mix under any noise, within the span more than out of it.
    assert plain_index.interval[0] > SESOI
    assert beyond.effect < plain_index.effect / 2
    assert not beyond.interval[0] > SESOI


def test_a_rotation_on_top_of_noise_is_found_beyond_noise(measure, base):
    tuned = measure(noisy(planted(within_span(np.pi / 4)), 0.01))
    assert index_of(base, tuned, beyond_noise=True).interval[0] > SESOI


def test_arms_and_details_say_what_was_compared(measure, base):
    found = index_of(base, measure(planted(within_span(0.3))))
    assert [arm.label for arm in found.arms] == ["direct match", "subspace overlap"]
    assert found.arms[0].ids == tuple(base)
    assert (found.details["directions"], found.details["d_model"]) == (K, D)
    assert found.details["mean_angle_degrees"] == pytest.approx(np.degrees(0.3), abs=np.degrees(STORED))
    assert found.details["rotation_index"] == pytest.approx(found.effect)
    other = index_of(base, measure(planted(within_span(0.3))), beyond_noise=True)
    assert other.arms[1].label == "match under noise"
    assert other.effect == pytest.approx(found.details["rotation_beyond_noise"])
    plain(found.details)  # JSON all through


def test_five_layers_have_the_interval_of_their_range_alone(measure, base):
    tuned = measure(planted(within_span(0.5)))
    few = {i: base[i] for i in list(base)[:5]}
    found = index_of(few, {i: tuned[i] for i in few})
    assert found.n == 5
    assert found.effect > 0.1
    low, high = found.interval
    assert low < 0  # five layers cannot show a rotation, whatever their values
    assert found.effect < high < 1.2


def test_a_layer_that_was_left_out_is_counted(measure, base):
    broken = {**base, "layer.3": EvidenceItem(id="layer.3", left_out="its down-projection has NaN or infinite weights")}
    seen = view(broken, base)
    found = rotates_knowledge(beyond_noise=False)(seen)
    assert found.n == LAYERS - 1
    assert "layer.3" not in found.arms[0].ids
    assert seen.excluded == Counter({"base: its down-projection has NaN or infinite weights": 1})
    figure = angle_curves_figure(seen)
    assert figure["series"][0]["values"][3] is None
    assert figure["x"] == list(range(LAYERS))
    # Figures are not counted again.
    assert seen.excluded.total() == 1


def test_checkpoints_that_cannot_be_paired_are_not_applicable(measure, base):
    quantity = rotates_knowledge(beyond_noise=True)
    with pytest.raises(NotApplicable, match="the base has 12 and the tuned checkpoint 11"):
        quantity(view(base, {i: item for i, item in base.items() if i != "layer.11"}))
    wide = {
        i: EvidenceItem(id=i, arrays=item.arrays, values={**item.values, "d_model": 64}) for i, item in base.items()
    }
    with pytest.raises(NotApplicable, match=r"d_model \[32, 64\]"):
        quantity(view(base, wide))
    with pytest.raises(NotApplicable, match="recorded evidence of the tuned checkpoint has no concepts"):
        quantity(view(base, None))
    assert angle_curves_figure(view(base, None)) is None
    assert moved_concepts_figure(view(base, None)) is None


def test_directions_that_span_the_whole_space_are_not_applicable(measure):
    whole = measure(planted(), rotation_k=D)
    with pytest.raises(NotApplicable, match="span the whole space"):
        index_of(whole, whole)


def test_no_layer_at_all_is_nothing(base):
    gone = {i: EvidenceItem(id=i, left_out="its neurons all write the same") for i in base}
    found = index_of(gone, gone)
    assert found.n == 0
    assert math.isnan(found.effect)


def test_match_under_noise_meets_the_measured_points_and_the_ends():
    curve = [(0.99, 0.8), (0.7, 0.3), (0.9, 0.5)]
    for overlap, match in [*curve, (1.0, 1.0), (0.0, 0.0)]:
        assert match_under_noise(overlap, curve) == pytest.approx(match)
    # Beyond the ends it stays there.
    assert match_under_noise(-0.01, curve) == 0
    grid = [match_under_noise(x, curve) for x in np.linspace(0, 1, 101)]
    assert (np.diff(grid) >= 0).all()


def test_match_under_noise_pulls_points_out_of_order_into_line():
    grid = [match_under_noise(x, [(0.99, 0.8), (0.98, 0.9), (0.5, -0.001)]) for x in np.linspace(0, 1, 101)]
    assert (np.diff(grid) >= 0).all()
    assert grid[0] == 0
    assert grid[-1] == 1


def test_the_two_indices_are_differences_of_the_same_parts():
    found = Rotation(overlap=0.9, match=0.3, noise_match=0.8)
    assert found.index == pytest.approx(0.6)
    assert found.beyond_noise == pytest.approx(0.5)


def test_the_angle_figure_gives_degrees_per_layer(measure, base):
    figure = angle_curves_figure(view(base, measure(planted(out_of_span(0.2)))))
    curves = {series["label"]: series["values"] for series in figure["series"]}
    for name in ("mean principal", "median principal", "largest principal"):
        np.testing.assert_allclose(curves[name], np.degrees(0.2), atol=np.degrees(STORED))
    assert figure["kind"] == "curves"
    assert all(60 < value < 90 for value in curves["chance"])
    plain(figure)


def test_the_table_of_moved_concepts_shows_the_one_that_moved(measure, base):
    def second_of_layer_5(i, q):
        found = q.copy()
        if i == 5:
            found[1], found[20] = np.cos(0.6) * q[1] + np.sin(0.6) * q[20], np.cos(0.6) * q[20] - np.sin(0.6) * q[1]
        return found

    tuned = measure(planted(second_of_layer_5))
    figure = moved_concepts_figure(view(base, tuned))
    assert len(figure["rows"]) == 12
    layer, rank, base_words, tuned_words, cosine, _ = figure["rows"][0]
    assert (layer, rank) == (5, 2)
    assert base_words == base["layer.5"].values["words"][1]
    assert tuned_words == tuned["layer.5"].values["words"][1]
    assert cosine == pytest.approx(math.cos(0.6), abs=1e-3)  # the figure has three places
    # Nothing else moved.
    assert figure["rows"][1][4] == 1
    plain(figure)
