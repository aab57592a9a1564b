"""Head relations: the vectorised computation against a naive one, neuron by neuron, and what is left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tuneshift.checkpoints.refs import Layer
from tuneshift.checkpoints.weight_maps import attention_map, input_embedding
from tuneshift.errors import MeasureError
from tuneshift.measures import relations as module
from tuneshift.measures.relations import relations
from tuneshift.words.spaces import similarity_thresholds
from tuneshift.words.tokens import NO_TOKEN, SAME_TOKENS, UNKNOWN

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
# Words of one token and of three ("ba-de": two syllables and the hyphen), no two of the same tokens in another order.
WORDS = [*SYLLABLES[:30], *(f"{a}-{b}" for a, b in zip(SYLLABLES[10:30], SYLLABLES[30:50], strict=True))]
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
CASES = {
    "llama, grouped": ("llama", {**SMALL, "num_key_value_heads": 2}),
    "gpt2, fused and tied": ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 4}),
    "gpt_neox, fused per head": ("gpt_neox", SMALL),
    "gemma2, norm of 1 + weight": ("gemma2", {**SMALL, "num_key_value_heads": 1, "head_dim": 8}),
    "falcon, fused and grouped": ("falcon", {**SMALL, "new_decoder_architecture": True, "num_kv_heads": 2}),
}
PARAMS = {"top": 12, "z": 0.3, "frequent": 20, "vocabulary": "sha", "word_vectors": {}}


def tokenizer_of(words, *, unk=True):
    vocab = {w: i for i, w in enumerate(["<unk>", "-", *words])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>" if unk else None)


def model_of(case, *, vocab=70, spread=0.5):
    kind, options = CASES[case]
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, vocab_size=vocab, bos_token_id=0, eos_token_id=0, pad_token_id=0, **options)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0.3, spread)
    return model


def checkpoint_of(model, tokenizer=None):
    return SimpleNamespace(model=model, tokenizer=tokenizer or tokenizer_of(SYLLABLES), ref=SimpleNamespace(name="it"))


@pytest.fixture
def sources(tmp_path):
    """A vocabulary and a word space on disk: clustered vectors, two of them the same, one word without a vector."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(8, 10))[np.arange(len(WORDS)) % 8] + rng.normal(size=(len(WORDS), 10))
    vectors[9] = vectors[3]
    return write(tmp_path, WORDS, [w for w in WORDS if w != WORDS[5]], np.delete(vectors, 5, axis=0))


def write(folder, vocabulary, words, vectors):
    (folder / "words.txt").write_text("\n".join(vocabulary))
    np.savez(folder / "space.npz", words=np.array(words), vectors=vectors.astype(np.float32))
    return {"vocabulary": str(folder / "words.txt"), "word_vectors": str(folder / "space.npz")}


def take(model, sources, params=PARAMS, layers=(0, 1), tokenizer=None):
    units = [Layer(index=i) for i in layers]
    return list(relations(checkpoint_of(model, tokenizer), params, sources)(units, [None] * len(units)))


def naive(model, item, sources, params, index, tokenizer):
    """The definition: one neuron, one pair of words after the other."""
    words = item.values["words"]
    with np.load(sources["word_vectors"]) as file:
        space = {str(w): v.astype(np.float64) for w, v in zip(file["words"], file["vectors"], strict=True)}
    unit = {w: (v / np.linalg.norm(v)).astype(np.float32) for w, v in space.items()}
    threshold = dict(zip(unit, similarity_thresholds(np.stack(list(unit.values())), frequent=params["frequent"],
                                                     z=params["z"]), strict=True))  # fmt: skip
    table = input_embedding(model).float().numpy()
    mean = np.stack([table[tokenizer(" " + w)["input_ids"]].mean(axis=0) for w in words])
    maps = attention_map(model, index)
    scaled = mean * maps.norm.float().numpy()
    group = len(maps.q) // len(maps.k)
    pairs, scores, counts = [], [], np.zeros(maps.q.shape[:2], dtype=int)
    for head in range(len(maps.q)):
        for neuron in range(maps.q.shape[1]):
            query = scaled @ maps.q[head, neuron].float().numpy()
            key = scaled @ maps.k[head // group, neuron].float().numpy()
            found = []
            for q_rank, i in enumerate(first(query, params["top"])):
                for k_rank, j in enumerate(first(key, params["top"])):
                    similarity = np.float32(np.dot(unit[words[i]].astype(float), unit[words[j]].astype(float)))
                    alike = similarity > threshold[words[i]] and similarity > threshold[words[j]]
                    if i != j and query[i] * key[j] > 0 and alike:
                        found.append((-similarity, q_rank, k_rank, j, i))
            for s, _, _, j, i in sorted(found):
                pairs.append((j, i))
                scores.append(-s)
            counts[head, neuron] = len(found)
    return np.array(pairs), np.array(scores), counts


def first(activations, top):
    return sorted(range(len(activations)), key=lambda i: (-abs(activations[i]), i))[:top]


def assert_naive(model, sources, params=PARAMS, tokenizer=None):
    tokenizer = tokenizer or tokenizer_of(SYLLABLES)
    items = take(model, sources, params, tokenizer=tokenizer)
    assert [item.id for item in items] == ["layer.0", "layer.1"]
    for index, item in enumerate(items):
        pairs, scores, counts = naive(model, item, sources, params, index, tokenizer)
        assert len(pairs) > 100, "nearly nothing to compare"
        np.testing.assert_array_equal(item.arrays["counts"], counts)
        np.testing.assert_array_equal(item.arrays["pairs"], pairs)
        np.testing.assert_array_equal(item.arrays["scores"], scores)
        assert {k: str(a.dtype) for k, a in item.arrays.items()} == {
            "pairs": "int32", "scores": "float32", "counts": "int32"}  # fmt: skip
    return items


@pytest.mark.parametrize("case", CASES)
def test_equals_the_naive_computation(case, sources):
    items = assert_naive(model_of(case), sources)
    assert items[0].values["left_out"] == {"no word vector": 1}
    assert items[0].values["words"] == [w for w in WORDS if w != WORDS[5]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_computes_in_float32_whatever_the_weights_are(dtype, sources):
    assert_naive(model_of("llama, grouped").to(dtype), sources)


def test_ties_go_by_rank_and_word(sources):
    # Small integers, embeddings in threes so that means of three are whole: activations are exact, many of them equal
    # at the boundary of the top, inside it, and zero.
    model = model_of("llama, grouped")
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator))
    model.get_input_embeddings().weight.mul_(3)
    assert_naive(model, sources)


def test_blocks_change_nothing(sources, monkeypatch):
    model = model_of("gemma2, norm of 1 + weight")
    whole = take(model, sources)
    for cells in (1, 700, 5000):
        monkeypatch.setattr(module, "ACTIVATIONS_AT_ONCE", cells)
        monkeypatch.setattr(module, "GATHERED_AT_ONCE", cells)
        for a, b in zip(whole, take(model, sources), strict=True):
            for name in a.arrays:
                np.testing.assert_array_equal(a.arrays[name], b.arrays[name])


def test_any_layers_in_any_order(sources):
    model = model_of("llama, grouped")
    both = take(model, sources)
    (second,) = take(model, sources, layers=(1,))
    assert second.id == "layer.1"
    np.testing.assert_array_equal(second.arrays["pairs"], both[1].arrays["pairs"])
    assert not np.array_equal(both[0].arrays["pairs"], both[1].arrays["pairs"])


def test_top_larger_than_the_vocabulary_takes_all_words(sources):
    model = model_of("gpt2, fused and tied")
    for a, b in zip(
        assert_naive(model, sources, {**PARAMS, "top": len(WORDS) - 1}),
        assert_naive(model, sources, {**PARAMS, "top": 10_000}),
        strict=True,
    ):
        np.testing.assert_array_equal(a.arrays["pairs"], b.arrays["pairs"])


def test_padded_vocabulary_is_never_read(sources):
    model = model_of("llama, grouped")
    padded = model_of("llama, grouped", vocab=96)
    for name, parameter in padded.named_parameters():
        source = model.get_parameter(name)
        if parameter.shape == source.shape:
            parameter.copy_(source)
        else:
            parameter.fill_(float("nan"))
            parameter[: len(source)] = source
    for a, b in zip(take(model, sources), take(padded, sources), strict=True):
        assert b.left_out is None
        np.testing.assert_array_equal(a.arrays["pairs"], b.arrays["pairs"])


def test_words_that_cannot_be_told_apart_or_have_no_tokens_are_left_out(tmp_path):
    # Zero-width spaces vanish in the tokenizer, "xx" is unknown to it, "BA" becomes "ba", "go" has no vector.
    from tokenizers import normalizers

    tokenizer = tokenizer_of(SYLLABLES)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("\u200b", "")]
    )
    vocabulary = ["BA", "ba", "\u200b", "\u200b\u200b", "xx", "be", "ba-xx", "go", "bi"]
    vectors = np.random.default_rng(0).normal(size=(len(vocabulary), 4))
    words = [w for w in vocabulary if w != "go"]
    sources = write(tmp_path, vocabulary, words, np.delete(vectors, 7, axis=0))
    (item,) = take(model_of("llama, grouped"), sources, layers=(0,), tokenizer=tokenizer)
    assert item.values["words"] == ["BA", "be", "bi"]
    counts = {"no word vector": 1, SAME_TOKENS: 1, NO_TOKEN: 2, UNKNOWN: 2}
    assert item.values["left_out"] == counts


def test_no_word_left_says_how_many_were_dropped_and_why(sources):
    with pytest.raises(
        MeasureError,
        match=r"no word .* left for it: 50 words were dropped \(no word vector: 1; unknown to the tokenizer: 49\)",
    ):
        take(model_of("llama, grouped"), sources, tokenizer=tokenizer_of(["nothing"]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_layer_with_nan_or_infinity_is_left_out_and_the_others_go_on(value, sources):
    model = model_of("llama, grouped")
    whole = take(model, sources)
    model.model.layers[0].self_attn.k_proj.weight[3, 5] = value
    broken, fine = take(model, sources)
    assert broken.left_out == "activations of layer 0 are NaN or infinite"
    assert not broken.arrays
    np.testing.assert_array_equal(fine.arrays["pairs"], whole[1].arrays["pairs"])


def test_no_similar_words_is_an_empty_list_of_pairs(sources):
    (item,) = take(model_of("llama, grouped"), sources, {**PARAMS, "z": 50.0}, layers=(0,))
    assert item.arrays["pairs"].shape == (0, 2)
    assert item.arrays["scores"].shape == (0,)
    assert item.arrays["counts"].shape == (4, 4)
    assert item.arrays["counts"].sum() == 0


def test_the_note_says_where_a_norms_scale_was_taken_as_one(sources):
    config = AutoConfig.for_model("olmo2", vocab_size=70, **SMALL)
    (item,) = take(AutoModelForCausalLM.from_config(config), sources, layers=(0,))
    assert "has no norm before attention; its scale is taken as 1" in item.values["note"]
    (normed,) = take(model_of("llama, grouped"), sources, layers=(0,))
    assert normed.values["note"] == ""


def test_thresholds_do_not_depend_on_the_tokenizer(sources):
    # A tokenizer that knows fewer words leaves their vectors out of the pairs, but not out of the thresholds.
    model = model_of("llama, grouped")
    everything = {**PARAMS, "top": 1000}
    full = take(model, sources, everything)[0]
    fewer = take(model, sources, everything, tokenizer=tokenizer_of(SYLLABLES[:25]))[0]
    kept = set(fewer.values["words"])
    assert len(kept) < len(full.values["words"])

    def neurons(item):
        ends = np.cumsum(item.arrays["counts"].ravel())[:-1]
        for pairs in np.split(item.arrays["pairs"], ends):
            named = {(item.values["words"][j], item.values["words"][i]) for j, i in pairs}
            yield {p for p in named if kept.issuperset(p)}

    assert list(neurons(full)) == list(neurons(fewer))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_pairs(sources):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = model_of("gpt2, fused and tied")
    here = take(model, sources)
    for a, b in zip(here, take(model.cuda(), sources), strict=True):
        for name in a.arrays:
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
