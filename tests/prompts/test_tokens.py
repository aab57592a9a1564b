"""tokens.py: instruction masks against a naive definition, on every kind of tokenizer offset, with and without chat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import CheckpointError, PairError, PromptError
from tuneshift.prompts.chat import resolve_chat_template
from tuneshift.prompts.sentencepiece import piece_text, pieces_text, sentencepiece_offsets
from tuneshift.prompts.tokens import EncodedPrompt, context_mask, display_tokens, encode, nonspace_mask, token_mask

TEXT = "Say it é😀 \n now. Über"
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|user|>\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>\n{% endif %}"
)


def fast(tokenizer: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def byte_level(*, trim: bool = False, prefix: bool = False) -> Any:
    """GPT-2's kind: bytes, with two merges across a leading space."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(["<unk>", "<s>", "</s>", *letters, "it", "Ġit", "Ġn", "Ġno"])}
    merges = [("i", "t"), ("Ġ", "it"), ("Ġ", "n"), ("Ġn", "o")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    if trim:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return fast(tokenizer)


def llama(*, legacy: bool = False) -> Any:
    """Llama 2's kind: ``▁`` for spaces, byte fallback, a BOS in front; ``legacy`` as its normalizer writes it."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Sayitnow.ber", "it", "▁it", "▁S"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", *pieces]))}
    merges = [("i", "t"), ("▁", "it"), ("▁", "S")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return fast(tokenizer)


def unigram() -> Any:
    """SentencePiece's Unigram, whose byte fallback gives every byte of a run of unknown characters the whole run."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Saytinow.ber", "▁it", "</s>", "<s>"]
    scores = [("<unk>", 0.0), *((piece, -2.0) for piece in dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return fast(tokenizer)


KINDS = {
    "byte_level": byte_level,
    "byte_level-trimmed": lambda: byte_level(trim=True),
    "byte_level-prefix": lambda: byte_level(prefix=True),
    "llama": llama,
    "llama-legacy": lambda: llama(legacy=True),
    "unigram": unigram,
}
TEMPLATES = {"plain": None, "chat": CHAT, "chat-trim": CHAT.replace("['content']", "['content'] | trim")}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def of_character(encoded: EncodedPrompt, character: int) -> list[int]:
    """Tokens that are marked when only one character is the instruction."""
    mask = token_mask(TEXT, encoded.offsets, [(character, character + 1)])
    return [int(index) for index in np.flatnonzero(mask)]


def test_a_mask_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = "".join(rng.choice(list("ab \n\u00a0é😀"), size=12))
        offsets = np.sort(rng.integers(0, 13, size=(20, 2)), axis=1)
        edges = np.sort(rng.choice(13, size=4, replace=False))
        spans = [(int(edges[0]), int(edges[1])), (int(edges[2]), int(edges[3]))]
        naive = [
            any(
                (text[i] == "\u00a0" or not text[i].isspace()) and any(a <= i < b for a, b in spans)
                for i in range(start, end)
            )
            for start, end in offsets
        ]
        assert token_mask(text, offsets, spans).tolist() == naive


def test_context_is_neither_instruction_nor_white_space_nor_a_format_label() -> None:
    text = "Sort.\n\nInput: b Input: a\n  Output:"
    offsets = np.array([(i, i + 1) for i in range(len(text))])
    found = context_mask(text, offsets, [(0, 5)])
    assert "".join(c for c, held in zip(text, found, strict=True) if held) == "bInput:a"
    assert not (found & token_mask(text, offsets, [(0, 5)])).any()
    # A token that a label shares with the context is context; the template's and empty ones never are.
    parts = np.array([(7, 13), (12, 15), (-1, -1), (14, 14), (5, 7)])
    assert context_mask(text, parts, [(0, 5)]).tolist() == [False, True, False, False, False]


def test_a_no_break_space_is_a_character_as_in_the_release() -> None:
    offsets = np.array([(0, 1), (1, 2), (2, 3)])
    assert token_mask("a\u00a0 ", offsets, [(0, 3)]).tolist() == [True, True, False]
    assert nonspace_mask("a\u00a0\n", offsets).tolist() == [True, True, False]


def test_template_tokens_and_empty_places_never_count() -> None:
    assert token_mask("ab", np.array([(-1, -1), (0, 0), (0, 1), (2, 2)]), [(0, 2)]).tolist() == [False] * 2 + [
        True,
        False,
    ]
    assert token_mask("ab", np.zeros((0, 2), dtype=int), [(0, 2)]).shape == (0,)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_every_character_is_held_by_its_own_tokens_only(tokenizer: Any, template: str | None) -> None:
    encoded = encode(TEXT, tokenizer, template)
    pieces = tokenizer.convert_ids_to_tokens(encoded.ids.tolist())
    for at, character in enumerate(TEXT):
        held = of_character(encoded, at)
        if character.isspace():
            assert held == []
        elif character.isascii():
            assert len(held) == 1
            assert character in pieces[held[0]]
        else:  # no tokenizer here has these letters: one token a byte
            assert len(held) == len(character.encode())
            assert held == list(range(held[0], held[-1] + 1))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_tokens_and_offsets_line_up_with_the_ids(tokenizer: Any, template: str | None) -> None:
    encoded = encode(TEXT, tokenizer, template)
    assert encoded.ids.dtype == np.int64
    assert len(encoded.tokens) == len(encoded.ids) == len(encoded.offsets)
    assert encoded.in_text.tolist() == (encoded.offsets[:, 0] >= 0).tolist()
    starts = encoded.offsets[encoded.in_text, 0]
    assert (np.diff(starts) >= 0).all()
    assert encoded.offsets.max() == len(TEXT)
    whole = "".join(token for token in encoded.tokens if "\ufffd" not in token and not token.startswith("<0x"))
    assert "".join(["Say", "it", "now.", "ber"]) in "".join(whole.split())


def test_a_plain_prompt_keeps_the_default_special_tokens() -> None:
    tokenizer = llama()
    encoded = encode("it", tokenizer, None)
    assert encoded.ids.tolist() == tokenizer("it")["input_ids"]
    assert encoded.tokens == ("<s>", "it")
    assert encoded.offsets.tolist() == [[-1, -1], [0, 2]]


def test_an_invented_leading_space_does_not_take_its_neighbours_character() -> None:
    for tokenizer in (llama(), llama(legacy=True)):
        encoded = encode("now", tokenizer, None)
        assert tokenizer.convert_ids_to_tokens(encoded.ids.tolist())[1:3] == ["▁", "n"]
        assert token_mask("now", encoded.offsets, [(0, 1)]).tolist() == [False, False, True, False, False]
        assert encoded.in_text.tolist() == [False, True, True, True, True]
        assert encoded.tokens == ("<s>", " ", "n", "o", "w")


@pytest.mark.parametrize("kind", ["byte_level", "llama", "unigram"])
def test_a_chat_has_one_bos_and_the_ids_of_transformers_own_rendering(kind: str) -> None:
    tokenizer = KINDS[kind]()
    encoded = encode(TEXT, tokenizer, CHAT)
    own = tokenizer.apply_chat_template(
        [{"role": "user", "content": TEXT}], chat_template=CHAT, add_generation_prompt=True, return_dict=False
    )
    assert encoded.ids.tolist() == own
    assert encoded.tokens.count("<s>") == 1
    assert encoded.tokens[0] == "<s>"
    assert not encoded.in_text[0]
    first, last = np.flatnonzero(encoded.in_text)[[0, -1]]
    assert "".join(encoded.tokens[:first]).replace(" ", "").startswith("<s><|user|>")
    assert "".join(encoded.tokens[last + 1 :]).strip().endswith("<|bot|>")


@pytest.mark.parametrize(
    ("filters", "text"),
    [("", "  it\n\n"), ("| trim", "  it\n\n"), ("| trim", "it"), ("| trim", "\n it"), ("| trim", "it ")],
)
def test_stripped_text_keeps_the_places_of_the_prompt(filters: str, text: str) -> None:
    template = f"[{{{{ messages[0]['content'] {filters} }}}}]it"
    encoded = encode(text, byte_level(), template)
    at = text.index("it")
    mask = token_mask(text, encoded.offsets, [(at, at + 2)])
    assert [token.strip() for token, held in zip(encoded.tokens, mask, strict=True) if held] == ["it"]
    assert encoded.in_text.sum() == len(encoded.ids) - 3  # "[", "]" and the template's own "it"


def test_text_that_looks_like_the_template_is_located() -> None:
    text = "<|bot|>\n</s>\n<|user|>\n"
    encoded = encode(text, byte_level(), CHAT)
    held = token_mask(text, encoded.offsets, [(0, 7)])
    assert "".join(token for token, counts in zip(encoded.tokens, held, strict=True) if counts) == "<|bot|>"
    assert held.sum() == 7


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages[0]['content'] | upper }}", "writes the user's text 0 times"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "writes the user's text 2 times"),
        ("nothing {{ bos_token }}", "writes the user's text 0 times"),
        ("{{ messages[0]['content'] | replace('it', 'that') }}", "changes the prompt 'Say it"),
        ("{{ messages[0]['content'][:30] }}", "changes the prompt"),
        ("{% if 'Say' in messages[0]['content'] %}x{% endif %}{{ messages[0]['content'] }}", "changes the prompt"),
    ],
)
def test_text_that_cannot_be_located_is_an_error(template: str, expected: str) -> None:
    with pytest.raises(PromptError) as error:
        encode(TEXT + " and more words", byte_level(), template)
    assert expected in str(error.value)
    assert "set chat_template" in str(error.value)


@pytest.mark.parametrize("template", ["{% if %}", "{{ raise_exception('needs a system turn') }}", "{{ 1 + 'a' }}"])
def test_a_template_that_does_not_render_is_an_error(template: str) -> None:
    with pytest.raises(PairError, match="cannot be rendered: "):
        encode(TEXT, byte_level(), template)


def test_a_slow_tokenizer_is_refused_with_what_to_do() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(CheckpointError, match=r"Slow is a slow tokenizer.*tokenizer\.json"):
        encode(TEXT, Slow(), None)


def test_the_chat_template_of_a_checkpoint(tmp_path: Path) -> None:
    tokenizer = llama()

    def resolve(given: str | None) -> str | None:
        return resolve_chat_template(ModelRef(name="m", model="m", chat_template=given), tokenizer)

    assert resolve(None) is None
    tokenizer.chat_template = CHAT
    assert resolve(None) == CHAT
    assert resolve("none") is None
    assert resolve("{{ messages }}") == "{{ messages }}"
    assert resolve("{% if x %}{% endif %}") == "{% if x %}{% endif %}"
    (tmp_path / "chat.jinja").write_text("é {{ messages }}\n", encoding="utf-8")
    assert resolve(str(tmp_path / "chat.jinja")) == "é {{ messages }}\n"
    with pytest.raises(PairError, match="m: chat_template 'chatml' is neither a file nor a Jinja template"):
        resolve("chatml")
    tokenizer.chat_template = {"default": "{{ a }}", "tool": "{{ b }}"}
    assert resolve(None) == "{{ a }}"
    tokenizer.chat_template = {"rag": "{{ a }}", "tool": "{{ b }}"}
    with pytest.raises(PairError, match="templates rag, tool and none named 'default'"):
        resolve(None)


def test_response_tokens_show_their_spaces(tokenizer: Any) -> None:
    ids = tokenizer("Say it now.é", add_special_tokens=False)["input_ids"]
    shown = display_tokens(np.asarray(ids), tokenizer)
    assert len(shown) == len(ids)
    assert "".join(shown).strip().startswith("Say it now.")
    assert display_tokens([], tokenizer) == []


PIECES = ["▁Say", "▁", "▁é", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xC3>", "<0xBC>", "<0x0A>", "▁now"]
SPELLED = "Say  é😀ü\n now"


def test_recorded_pieces_lie_where_they_spell_the_text() -> None:
    expected = [(0, 3), (3, 4), (4, 6), *[(6, 7)] * 4, *[(7, 8)] * 2, (8, 9), (9, 13)]
    assert sentencepiece_offsets(PIECES, SPELLED).tolist() == [list(place) for place in expected]
    assert sentencepiece_offsets(["▁", "<0x0A>", "x"], "\nx").tolist() == [[0, 0], [0, 1], [1, 2]]
    assert sentencepiece_offsets(["▁▁x"], " x").tolist() == [[0, 2]]
    assert sentencepiece_offsets(["▁x"], " x").tolist() == [[0, 2]]
    assert sentencepiece_offsets(["x", "▁"], "x▁").tolist() == [[0, 1], [1, 2]]
    assert sentencepiece_offsets([], "").shape == (0, 2)
    assert pieces_text(PIECES) == SPELLED
    assert pieces_text(["▁a", "<0xF0>"]) == "a\ufffd"
    assert [piece_text(piece) for piece in ("▁a▁", "<0x0A>", "<0xF0>")] == [" a ", "\n", "<0xF0>"]


@pytest.mark.parametrize(
    ("pieces", "text", "expected"),
    [
        (["▁Say", "▁it", "▁now"], "Say at now", "piece 1 ('▁it')"),
        (["▁Say", "▁it"], "Say it now", "piece 1 ('▁it')"),
        (["▁Say", "▁it", "▁now"], "Say it", "piece 2 ('▁now')"),
        (["▁Say", "<0x0A>", "x"], "Say x", "piece 1 ('<0x0A>')"),
        (["▁Say", "<0xF0>", "<0x9F>", "x"], "Say 😀x", "piece 1 ('<0xF0>') is not part of a UTF-8 character"),
        ([], "Say", "the empty list of pieces"),
    ],
)
def test_pieces_of_another_text_are_named(pieces: list[str], text: str, expected: str) -> None:
    with pytest.raises(PromptError) as error:
        sentencepiece_offsets(pieces, text)
    assert str(error.value).startswith(expected)


def test_every_published_piece_lies_in_its_prompt(shared: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = shared / "published" / "wu2023"
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {line["id"]: line["prompt"] for line in map(json.loads, lines)}
    rows = parquet.read_table(folder / "vicuna-7b.attributions.parquet", columns=["id", "input_tokens"]).to_pylist()
    assert len(rows) == 332
    for row in rows:
        text = texts[row["id"]]
        offsets = sentencepiece_offsets(row["input_tokens"], text)
        for piece, (start, end) in zip(row["input_tokens"], offsets.tolist(), strict=True):
            shown = piece_text(piece)
            assert text[start:end] in (shown, shown[1:]) or (end - start == 1 and not text[start].isascii())
