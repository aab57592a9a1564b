"""Concepts of feed-forward layers against the naive definition, and what is left out and why."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tolerances import SINGLE, assert_near, rounding

from tuneshift.checkpoints.refs import Layer
from tuneshift.checkpoints.weight_maps import down_projection, n_layers, output_embedding
from tuneshift.errors import MeasureError
from tuneshift.measures.concepts import concepts, noise_null, principal_directions, top_words
from tuneshift.measures.subspaces import direct_match, subspace_overlap

WORDS = ("the", "no", "on", "was", "saw", "write", "code", "sum", "say", "cat", "act", "verb", "noun", "add", "seven")
PARAMS = {"concepts": 300, "top": 5, "rotation_k": 4, "noise": [0.01, 0.1]}
VOCAB = 320  # the tokenizer has 256 bytes: the rest is padding


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def model(kind, *, seed=0):
    """A random model of d_model 16 and 40 neurons in two layers; its weights are not all of one size."""
    import transformers as t

    small = {"vocab_size": VOCAB, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    usual = {**small, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    made = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**usual, num_key_value_heads=2)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**small, n_embd=16, n_inner=40, n_layer=2, n_head=4)),
        "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**usual)),
        "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**usual)),
    }[kind]()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return {"vocabulary": str(path)}


def measured(made, sources, layers=(0, 1), **params):
    checkpoint = SimpleNamespace(model=made, tokenizer=tokenizer(), ref=SimpleNamespace(name="tiny"))
    take = concepts(checkpoint, {**PARAMS, **params}, sources)
    units = [Layer(index=i) for i in layers]
    return list(take(units, [None] * len(units)))


def naive(made, layer, top):
    """Directions by SVD of the centred matrix, words one direction after the other with a full sort."""
    weight = down_projection(made, layer).double().numpy().T
    centred = weight - weight.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    embedding = output_embedding(made).double().numpy()
    spell = tokenizer()
    found = []
    for row in rows:
        direction = row * np.sign(row[np.argmax(np.abs(row))])
        scores = []
        for word in WORDS:
            mean = np.mean([embedding[i] for i in sorted(spell(" " + word)["input_ids"])], axis=0)
            scores.append(np.float32(abs(direction @ mean) / np.linalg.norm(mean)))
        order = sorted(range(len(WORDS)), key=lambda i: (-scores[i], i))[:top]
        found.append((direction, [WORDS[i] for i in order], [scores[i] for i in order]))
    return found, singular**2 / np.sum(singular**2)


@pytest.mark.numerics
@pytest.mark.parametrize("kind", ["llama", "gpt2", "neox", "phi"])
def test_the_vectorised_way_agrees_with_the_naive_one(kind, vocabulary):
    made = model(kind)
    for layer, item in enumerate(measured(made, vocabulary)):
        expected, share = naive(made, layer, top=5)
        assert item.values["words"] == [words for _, words, _ in expected]
        np.testing.assert_allclose(item.arrays["directions"], [d for d, _, _ in expected], atol=SINGLE)
        np.testing.assert_allclose(item.arrays["word_scores"], [s for _, _, s in expected], atol=SINGLE)
        assert_near(
            item.arrays["spectrum"],
            share,
            terms=16 * 64,
            dtype=torch.float64,
        )


def test_what_an_item_holds(vocabulary):
    (item,) = measured(model("llama"), vocabulary, layers=(1,), concepts=6)
    assert item.id == "layer.1"
    shapes = {name: (a.shape, a.dtype) for name, a in item.arrays.items()}
    assert shapes == {
        "directions": ((6, 16), np.float32),
        "spectrum": ((16,), np.float64),
        "word_scores": ((6, 5), np.float32),
        "noise_overlap": ((2,), np.float64),
        "noise_match": ((2,), np.float64),
    }
    assert item.values["asked"] == item.values["kept"] == 6
    assert item.values["d_model"] == 16
    assert item.values["rotation_k"] == 4
    assert item.values["noise"] == [0.01, 0.1]
    assert item.values["words_left_out"] == {}


@pytest.mark.numerics
def test_directions_are_orthonormal_by_falling_variance_and_of_a_fixed_sign(vocabulary):
    (item,) = measured(model("llama"), vocabulary, layers=(0,))
    directions, spectrum = item.arrays["directions"], item.arrays["spectrum"]
    np.testing.assert_allclose(directions @ directions.T, np.eye(16), atol=16 * SINGLE)
    assert (np.diff(spectrum) <= 0).all()
    assert spectrum.sum() == pytest.approx(1)
    largest = np.abs(directions).argmax(axis=1)
    assert (directions[np.arange(16), largest] > 0).all()


def test_more_concepts_than_dimensions_keeps_all_and_says_so(vocabulary):
    (item,) = measured(model("llama"), vocabulary, layers=(0,), concepts=300, rotation_k=99)
    assert (item.values["asked"], item.values["kept"], item.values["rotation_k"]) == (300, 16, 16)
    assert len(item.arrays["directions"]) == len(item.values["words"]) == 16


@pytest.mark.numerics
def test_fewer_neurons_than_dimensions_give_fewer_concepts(vocabulary):
    made = model("llama")
    for layer in made.model.layers:
        layer.mlp.down_proj.weight = torch.nn.Parameter(layer.mlp.down_proj.weight[:, :5].clone(), requires_grad=False)
    (item,) = measured(made, vocabulary, layers=(0,))
    # Five centred neurons span four dimensions.
    assert item.values["kept"] == 4
    assert item.arrays["spectrum"][4:].max() < rounding(5 * 16, torch.float64)


def test_any_subset_of_layers_gives_the_same_items(vocabulary):
    made = model("llama")
    both = measured(made, vocabulary)
    (last,) = measured(made, vocabulary, layers=(1,))
    for name, array in both[1].arrays.items():
        np.testing.assert_array_equal(array, last.arrays[name])
    assert both[1].values == last.values


def test_rows_that_pad_the_vocabulary_are_never_read(vocabulary):
    made = model("llama")
    before = measured(made, vocabulary)
    output_embedding(made)[256:] = float("nan")
    after = measured(made, vocabulary)
    assert [i.values["words"] for i in before] == [i.values["words"] for i in after]
    np.testing.assert_array_equal(before[0].arrays["word_scores"], after[0].arrays["word_scores"])


def test_tied_embeddings_are_the_input_embedding(vocabulary):
    made = model("gpt2")
    assert made.config.tie_word_embeddings
    words = measured(made, vocabulary)[0].values["words"]
    made.get_input_embeddings().weight.copy_(torch.randn(VOCAB, 16))
    changed = measured(made, vocabulary)[0].values["words"]
    assert changed != words
    assert changed == [w for _, w, _ in naive(made, 0, top=5)[0]]


def test_bfloat16_weights_are_measured_as_the_numbers_they_are(vocabulary):
    made = model("llama").bfloat16()
    half = measured(made, vocabulary)
    wide = measured(made.float(), vocabulary)
    for a, b in zip(half, wide, strict=True):
        assert a.values == b.values
        np.testing.assert_array_equal(a.arrays["directions"], b.arrays["directions"])


def test_a_layer_with_nan_is_left_out_and_the_others_go_on(vocabulary):
    made = model("llama")
    whole = measured(made, vocabulary)
    down_projection(made, 0)[3, 7] = float("nan")
    broken = measured(made, vocabulary)
    assert broken[0].left_out == "its down-projection has NaN or infinite weights"
    assert not broken[0].arrays
    assert broken[1].left_out is None
    np.testing.assert_array_equal(broken[1].arrays["directions"], whole[1].arrays["directions"])


def test_a_layer_whose_neurons_are_all_the_same_is_left_out(vocabulary):
    made = model("llama")
    down_projection(made, 1)[:] = 0.5
    assert measured(made, vocabulary, layers=(1,))[0].left_out == "its neurons all write the same"


def test_a_vocabulary_without_words_that_have_tokens_is_an_error(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    deaf = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), unk_token="?")
    checkpoint = SimpleNamespace(model=model("llama"), tokenizer=deaf, ref=SimpleNamespace(name="tiny"))
    with pytest.raises(MeasureError, match=r"no word of the vocabulary .* 'tiny' \(15 unknown to the tokenizer\)"):
        concepts(checkpoint, PARAMS, {"vocabulary": str(path)})


def test_a_list_is_no_longer_than_the_vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("cat\nact\ncats")
    (item,) = measured(model("llama"), {"vocabulary": str(path)}, layers=(0,), top=30)
    # Three words: no list can have thirty.
    assert {len(words) for words in item.values["words"]} == {3}


@pytest.mark.numerics
def test_ties_go_to_the_earlier_word():
    # Eight words of two embeddings: within each, the vocabulary's order.
    words = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 0, 1, 0, 1]]
    scores, index = top_words(torch.tensor([[0.6, 0.8]], dtype=torch.float64), words, 6)
    assert index.tolist() == [[1, 3, 5, 7, 0, 2]]
    assert scores[0].tolist() == pytest.approx([0.8] * 4 + [0.6] * 2)


def test_words_of_the_same_letters_tie_to_the_last_bit(vocabulary):
    # "no" and "on", "was" and "saw", "cat" and "act" have the same mean, so they stand together, the earlier first.
    for item in measured(model("llama"), vocabulary, top=15):
        for words in item.values["words"]:
            for first, second in (("no", "on"), ("was", "saw"), ("cat", "act")):
                assert words.index(second) == words.index(first) + 1


@pytest.mark.numerics
def test_planted_directions_come_back_exactly_from_an_ill_conditioned_layer():
    # Standard deviations from 1 to 1e-5, variances over ten decades: beyond what a float32 covariance can hold.
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((24, 24)))
    u = rng.standard_normal((96, 24))
    u, _ = np.linalg.qr(u - u.mean(axis=0))
    found = principal_directions(torch.from_numpy(u * np.logspace(0, -5, 24) @ q.T))
    np.testing.assert_allclose(
        np.abs(np.sum(found.directions.numpy() * q.T, axis=1)), 1, atol=1e5 * rounding(96 * 24, torch.float64)
    )


@pytest.mark.numerics
def test_the_noise_null_is_what_adding_noise_does():
    torch.manual_seed(0)
    outputs = torch.randn(200, 24, dtype=torch.float64)
    own = principal_directions(outputs).directions[:6]
    overlap, match = noise_null(outputs, own, [1e-7, 0.05, 0.5], seed=3)
    # The same by numpy's SVD, draw by draw.
    generator = torch.Generator().manual_seed(3)
    for i, size in enumerate([1e-7, 0.05, 0.5]):
        noise = torch.randn(200, 24, generator=generator).double()
        noisy = (outputs + size * outputs.norm() / np.sqrt(200 * 24) * noise).numpy()
        rows = np.linalg.svd(noisy - noisy.mean(axis=0), full_matrices=False)[2][:6]
        assert overlap[i] == pytest.approx(subspace_overlap(own.numpy(), rows))
        assert match[i] == pytest.approx(direct_match(own.numpy(), rows))
    # Hardly any noise moves nothing; more noise leaves less; single directions go before their span does.
    assert overlap[0] == pytest.approx(1)
    assert match[0] == pytest.approx(1)
    assert overlap[1] > overlap[2]
    assert (match[1:] < overlap[1:]).all()


def test_the_noise_of_a_layer_is_its_own_and_always_the_same(vocabulary):
    made = model("llama")
    down_projection(made, 1)[:] = down_projection(made, 0)
    first, second = measured(made, vocabulary)
    assert first.values["words"] == second.values["words"]
    assert (first.arrays["noise_match"] != second.arrays["noise_match"]).any()
    again, _ = measured(made, vocabulary)
    np.testing.assert_array_equal(first.arrays["noise_match"], again.arrays["noise_match"])


def test_every_layer_of_the_model_can_be_asked_for(vocabulary):
    made = model("neox")
    assert [i.id for i in measured(made, vocabulary, layers=range(n_layers(made)))] == ["layer.0", "layer.1"]
