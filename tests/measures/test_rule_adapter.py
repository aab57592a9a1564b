"""The adapter equals the rules written out token by token, on three tokenizers, however rows are batched and cached."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import transformers

from tuneshift.errors import MeasureError, UsageError
from tuneshift.measures.adapter_rules import DiversityRule, EndRule, RuleSettings, UniformRule, load_rules, rules_of
from tuneshift.measures.rule_adapter import RuleAdapter, single_tokens, turn_as_released
from tuneshift.prompts.tokens import encode
from tuneshift.resources import fixture

PUBLISHED = {
    "<": -4, " <": -4, "|": -4, "I": -5, " I": -5, "What": -5, " We": -3, " should": -6,
    " *": 1, " -": 1, " #": 1, " ##": 1, "  ": 1, "\n": 1, "!": 1,
}  # fmt: skip
LIMIT = 12
# The published rules, made so strong that each decides between some tokens of a random model within a few steps.
STEEP = RuleSettings(
    end=EndRule(score=15.0, steps=30),
    uniform=UniformRule(scores={text: 6.0 * score for text, score in PUBLISHED.items()}),
    diversity=DiversityRule(score=-1.5),
)


def byte_level():
    """GPT-2's kind: bytes as visible characters, ``Ġ`` a space, no space put in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "<"), ("Ġ", "I"), ("Ġ", "W"), ("ĠW", "e"), ("W", "h"), ("Wh", "a"), ("Wha", "t"), ("Ġ", "-"),
              ("Ġ", "#"), ("Ġ#", "#"), ("Ġ", "Ġ")]  # fmt: skip
    words = ["<end>", *alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def sentencepiece():
    """Llama-2's kind: ``▁`` a space, one put in front, bytes as pieces; and letters that are marks elsewhere."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    letters = "abcdefghijklmnopqrstuvwxyzWIĠĊ?"
    words = ["▁", *letters, "▁a", "▁I", "▁We", "What", "▁should", "<", "▁<", "|", "▁*", "▁##", "▁▁", "!", "▁!"]
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", -20.0) for byte in range(256))]
    backend = Tokenizer(models.Unigram([*pieces, *((w, -len(w) / 9) for w in words)], unk_id=0, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


def embedded():
    return transformers.AutoTokenizer.from_pretrained(fixture("models/micro/base"))


# Per tokenizer: the piece of each text that is one token; the rest of PUBLISHED is missing.
PIECES = {
    "byte level": {"<": "<", " <": "Ġ<", "|": "|", "I": "I", " I": "ĠI", "What": "What", " We": "ĠWe", " -": "Ġ-",
                   " #": "Ġ#", " ##": "Ġ##", "  ": "ĠĠ", "\n": "Ċ", "!": "!"},
    "sentencepiece": {"<": "<", " <": "▁<", "|": "|", "I": "I", " I": "▁I", "What": "What", " We": "▁We",
                      " should": "▁should", " *": "▁*", " ##": "▁##", "  ": "▁▁", "\n": "<0x0A>", "!": "!"},
    "embedded": {"<": "<", "|": "|", "I": "I", " I": "ĠI", "What": "What", " -": "Ġ-", "\n": "Ċ", "!": "!"},
}  # fmt: skip
MAKERS = {"byte level": byte_level, "sentencepiece": sentencepiece, "embedded": embedded}
TEXTS = ("I should ask! ", "What", "a < b |x| We", "# one\n## two\nwhat is it and why is it so? I do not know", "aa")


@pytest.fixture(scope="module", params=MAKERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind):
    return MAKERS[kind]()


@pytest.fixture(scope="module")
def model(tokenizer):
    """A random Llama whose probabilities are near enough for the rules to decide between tokens."""
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer) + 3, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, eos_token_id=None, pad_token_id=None, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=0.3)
    assert made.num_parameters() == 32 * config.vocab_size + 4688
    return made


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [np.array(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]


@pytest.fixture(scope="module")
def turns(prompts):
    """The user's part of each prompt: all but its ends, nothing, and all of it by None."""
    return [prompts[0][1:-1], prompts[1][:0], prompts[2][1:], None, prompts[4][:1]]


def naive(logits, prompt, turn, response, ends, pieces, settings):
    """The rules as they are written, for one row and one step: ``logits`` [vocab] after prompt and response."""
    scores = (logits - logits.exp().sum().log()).tolist()
    t = len(response)
    if settings.end and t > 0 and t < settings.end.steps:
        scores[ends] += settings.end.score * t / settings.end.steps
    if settings.uniform:
        for token, score in pieces:
            scores[token] += score
    if settings.diversity:
        present = list(prompt if turn is None else turn) + list(response)
        for token in range(len(scores)):
            if token in present:
                scores[token] += settings.diversity.score
    return torch.tensor(scores)


def scored(tokenizer, kind):
    return [(tokenizer.get_vocab()[piece], STEEP.uniform.scores[text]) for text, piece in PIECES[kind].items()]


def alone(model, prompt, turn, ends, pieces, settings):
    """Response and scores of every step for one prompt: no batch, no padding, no cache, a loop."""
    response, steps = [], []
    while len(response) < LIMIT:
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, -1]
        steps.append(naive(logits, prompt, turn, response, ends, pieces, settings))
        response.append(int(steps[-1].argmax()))
        if response[-1] == ends:
            break
    return response, torch.stack(steps)


def together(model, prompts, adapter, ends, cache=True, pad=0):
    """The same through `generate`, in one batch padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    made = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=LIMIT, use_cache=cache, logits_processor=[adapter],
        eos_token_id=ends, pad_token_id=pad, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    found = []
    for row, new in enumerate(made.sequences[:, longest:].tolist()):
        length = new.index(ends) + 1 if ends in new else len(new)
        found.append((new[:length], torch.stack([made.scores[t][row] for t in range(length)])))
    return found


@pytest.mark.numerics
@pytest.mark.parametrize("off", [(), ("end",), ("uniform",), ("diversity",), ("end", "uniform", "diversity")])
def test_responses_equal_the_rules_written_out(kind, tokenizer, model, prompts, turns, off):
    settings, ends, pieces = STEEP.without(*off), tokenizer.eos_token_id, scored(tokenizer, kind)
    expected = [alone(model, p, u, ends, pieces, settings) for p, u in zip(prompts, turns, strict=True)]
    batches = [[1], [3], [4, 2, 0], list(range(len(prompts)))]
    for cache in (True, False):
        for batch in batches:
            chosen = [prompts[i] for i in batch]
            adapter = RuleAdapter(settings, tokenizer, chosen, user_turns=[turns[i] for i in batch])
            for i, (response, scores) in zip(batch, together(model, chosen, adapter, ends, cache), strict=True):
                assert response == expected[i][0]
                torch.testing.assert_close(scores, expected[i][1])


def test_each_rule_changes_these_responses(kind, tokenizer, model, prompts, turns):
    """Else the test above could not tell whether a rule was applied at all."""
    pieces, ends = scored(tokenizer, kind), tokenizer.eos_token_id
    free = STEEP.without("end", "uniform", "diversity")
    base = [alone(model, p, u, ends, pieces, free)[0] for p, u in zip(prompts, turns, strict=True)]
    for only in ("end", "uniform", "diversity"):
        settings = STEEP.without(*{"end", "uniform", "diversity"} - {only})
        ruled = [alone(model, p, u, ends, pieces, settings)[0] for p, u in zip(prompts, turns, strict=True)]
        assert ruled != base, only


def test_strings_resolve_and_missing_ones_are_reported(kind, tokenizer):
    vocabulary = tokenizer.get_vocab()
    adapter = RuleAdapter(load_rules(), tokenizer, [[1, 2]])
    assert adapter.tokens == {text: vocabulary[piece] for text, piece in PIECES[kind].items()}
    assert adapter.missing == tuple(text for text in PUBLISHED if text not in PIECES[kind])
    assert RuleAdapter(load_rules().without("uniform"), tokenizer, [[1, 2]]).missing == ()


def test_marks_of_one_scheme_are_letters_in_another():
    found = single_tokens(sentencepiece(), ["Ċ", "Ġ", "\n", " ", "▁", "<0x0A>", "zzz"])
    vocabulary = sentencepiece().get_vocab()
    # "▁" and "<0x0A>" stand for a space and a line break here, so no token reads as they do.
    assert found == {"Ċ": vocabulary["Ċ"], "Ġ": vocabulary["Ġ"], "\n": vocabulary["<0x0A>"], " ": vocabulary["▁"]}
    found = single_tokens(byte_level(), ["Ċ", "\n", "I", " I", "zzz"])
    vocabulary = byte_level().get_vocab()
    assert found == {"\n": vocabulary["Ċ"], "I": vocabulary["I"], " I": vocabulary["ĠI"]}


def test_added_tokens_resolve_before_the_vocabulary_s_own_spelling():
    tokenizer = byte_level()
    tokenizer.add_tokens(["  "])
    assert tokenizer("a  ")["input_ids"][-1] == len(tokenizer) - 1  # what the encoder takes
    assert single_tokens(tokenizer, ["  "]) == {"  ": len(tokenizer) - 1}


class Bare:
    """A tokenizer as far as rules without texts need one."""

    eos_token_id = 7


VOCABULARY = 12


def level(input_ids, adapter):
    """What the rules add to each token: scores from equal logits, [row, vocab]."""
    return adapter(input_ids, torch.zeros(len(input_ids), VOCABULARY, dtype=torch.float64)) + np.log(VOCABULARY)


@pytest.mark.numerics
@pytest.mark.parametrize(("t", "expected"), [(0, 0.0), (1, 0.06), (2, 0.12), (125, 7.5), (249, 14.94), (250, 0.0)])
def test_the_end_token_rises_over_the_response(t, expected):
    settings = load_rules().without("uniform", "diversity")
    adapter = RuleAdapter(settings, Bare(), [[1, 2, 3], [4]])  # of two lengths: t counts from the response on
    ids = torch.full((2, 3 + t), 9)
    ids[:, :3] = torch.tensor([[1, 2, 3], [0, 0, 4]])
    added = level(ids, adapter)
    wanted = torch.zeros(2, VOCABULARY, dtype=torch.float64)
    wanted[:, 7] = expected
    torch.testing.assert_close(added, wanted)


def only_diversity(prompts, turns=None):
    settings = RuleSettings(diversity=DiversityRule(score=-1.5))
    return RuleAdapter(settings, Bare(), prompts, user_turns=turns)


def penalised(added):
    assert set(added.round(decimals=4).unique().tolist()) <= {0.0, -1.5}
    return [set(torch.nonzero(row < -1).ravel().tolist()) for row in added]


def test_padding_is_not_present():
    adapter = only_diversity([[1, 2, 3], [4, 4]])
    assert penalised(level(torch.tensor([[1, 2, 3], [5, 4, 4]]), adapter)) == [{1, 2, 3}, {4}]
    assert penalised(level(torch.tensor([[1, 2, 3, 1], [5, 4, 4, 9]]), adapter)) == [{1, 2, 3}, {4, 9}]


def test_only_the_user_turn_counts_of_a_prompt():
    adapter = only_diversity([[1, 2, 3], [4, 5], [6]], [[2], [], None])
    head = torch.tensor([[1, 2, 3], [0, 4, 5], [0, 0, 6]])
    assert penalised(level(head, adapter)) == [{2}, set(), {6}]
    after = torch.cat([head, torch.tensor([[8, 3], [0, 0], [6, 6]])], dim=1)
    assert penalised(level(after, adapter)) == [{2, 3, 8}, {0}, {6}]
    nothing = only_diversity([[1], [2]], [[], []])
    assert penalised(level(torch.tensor([[1], [2]]), nothing)) == [set(), set()]


def test_rows_may_be_repeated_reordered_and_left_out_at_any_step():
    adapter = only_diversity([[1, 2, 3], [2, 3], [4]])
    rows = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 0, 4]])
    expected = [{1, 2, 3}, {2, 3}, {4}]
    assert penalised(level(rows, adapter)) == expected
    for order in ([2, 0, 1], [1], [0], [2, 2, 2, 1], [0, 0, 1, 1, 2, 2], [0, 1, 2]):
        for length in (0, 2):
            ids = torch.cat([rows[order], torch.tensor([[i + 5] * length for i in order], dtype=torch.int64)], dim=1)
            wanted = [expected[i] | ({i + 5} if length else set()) for i in order]
            assert penalised(level(ids, adapter)) == wanted
            assert penalised(level(ids, only_diversity([[1, 2, 3], [2, 3], [4]]))) == wanted  # called afresh


def test_rows_that_padding_makes_alike_are_taken_in_the_given_order():
    rows = torch.tensor([[0, 6, 7], [0, 6, 7]])  # a padded prompt, and one that begins with the padding token
    adapter = only_diversity([[6, 7], [0, 6, 7]])
    assert penalised(level(rows, adapter)) == [{6, 7}, {0, 6, 7}]
    assert penalised(level(rows.repeat(2, 1), adapter)) == [{6, 7}, {6, 7}, {0, 6, 7}, {0, 6, 7}]


def test_beams_follow_their_own_rows(tokenizer, model, prompts):
    """Every beam of a batch is scored as in a batch of its own, although beams trade places at every step."""

    def best(rows):
        adapter = RuleAdapter(load_rules(), tokenizer, rows)
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in rows])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in rows])
        made = model.generate(
            ids, attention_mask=mask, num_beams=3, max_new_tokens=8, do_sample=False, logits_processor=[adapter],
            eos_token_id=tokenizer.eos_token_id, pad_token_id=0,
        )  # fmt: skip
        return made[:, longest:].tolist()

    assert best(prompts) == [best([p])[0] for p in prompts]


@pytest.mark.numerics
def test_sampling_sees_the_product_of_both_distributions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, VOCABULARY, generator=generator, dtype=torch.float64) * 3
    adapter = only_diversity([[1, 2]])
    expert = torch.ones(VOCABULARY, dtype=torch.float64)
    expert[[1, 2]] = np.exp(-1.5)
    product = logits.softmax(-1) * expert
    got = adapter(torch.tensor([[1, 2]]), logits)
    torch.testing.assert_close(got.softmax(-1), product / product.sum())
    torch.testing.assert_close(got.exp(), product)  # base log-probabilities, not logits, are what is added to


def test_logits_stay_as_they_are_and_half_precision_is_widened():
    logits = torch.zeros(1, VOCABULARY, dtype=torch.bfloat16)
    got = only_diversity([[1]])(torch.tensor([[1]]), logits)
    assert got.dtype == torch.float32
    assert not logits.any()
    assert only_diversity([[1]])(torch.tensor([[1]]), logits.double()).dtype == torch.float64


@pytest.mark.numerics
def test_without_an_end_token_the_end_rule_says_so():
    class Endless:
        eos_token_id = None

    settings = RuleSettings(end=EndRule(score=15.0, steps=250))
    with pytest.raises(
        MeasureError, match=r"no end token, which the rule 'end' scores; name the id .*without\('end'\)"
    ):
        RuleAdapter(settings, Endless(), [[1]])
    assert RuleAdapter(settings.without("end"), Endless(), [[1]]).missing == ()
    added = level(torch.tensor([[1, 2]]), RuleAdapter(settings, Endless(), [[1]], end_token=5))
    assert added[0, 5] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("prompts", "turns", "message"),
    [
        ([], None, "prompts of its batch, at least one; got none"),
        ([[1], []], None, "prompt 1 has no tokens"),
        ([[1], [2]], [[1]], "2 prompts need as many user turns, one each; got 1"),
        ([[1], [2], [1]], [[1], None, None], "prompts 0 and 2 have the same tokens but other user turns"),
    ],
)
def test_prompts_and_turns_that_do_not_fit_are_refused(prompts, turns, message):
    with pytest.raises(ValueError, match=message):
        only_diversity(prompts, turns)


def test_a_batch_of_other_prompts_is_refused():
    adapter = only_diversity([[1, 2, 3], [4]])
    with pytest.raises(ValueError, match="row 1 of input_ids holds none of the adapter's 2 prompts before position 3"):
        level(torch.tensor([[1, 2, 3], [4, 0, 0]]), adapter)  # padded on the right
    with pytest.raises(ValueError, match="input_ids are 2 tokens wide, but the longest of the adapter's prompts has 3"):
        level(torch.tensor([[0, 4]]), adapter)


def test_the_released_turn_runs_from_the_user_s_first_token_through_the_assistant_s_tag():
    tokenizer = embedded()
    encoded = encode("What colour is a lemon?", tokenizer, tokenizer.chat_template)
    text = tokenizer.decode(turn_as_released(encoded))
    assert text == "What colour is a lemon?\n<|assistant|>\n"
    assert tokenizer.decode(encoded.ids[encoded.in_text]) == "What colour is a lemon?"
    empty = encode("", tokenizer, tokenizer.chat_template)
    assert len(turn_as_released(empty)) == 0


def test_the_shipped_rules_are_the_published_ones():
    rules = load_rules()
    assert rules == load_rules("hewitt2024") == load_rules(str(fixture("adapters/hewitt2024.toml")))
    assert (rules.end, rules.diversity) == (EndRule(score=15.0, steps=250), DiversityRule(score=-1.5))
    assert rules.uniform.scores == PUBLISHED
    assert len(PUBLISHED) == 15  # as the paper's abstract at ICLR 2025 counts them
    assert json.loads(json.dumps(asdict(rules)))["uniform"]["scores"]["\n"] == 1.0


def test_rules_are_switched_off_by_leaving_them_out(tmp_path):
    rules = load_rules()
    assert rules.on == ("end", "uniform", "diversity")
    assert rules.without("uniform").on == ("end", "diversity")
    assert rules.without(*rules.on) == RuleSettings()
    with pytest.raises(ValueError, match="no rule 'divers' to leave out; did you mean 'diversity'"):
        rules.without("divers")
    path = tmp_path / "own.toml"
    path.write_text("[end]\nscore = 3\nsteps = 40\n")
    assert load_rules(str(path)) == RuleSettings(end=EndRule(score=3.0, steps=40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no rules in this file; write at least one of \[end\], \[uniform\], \[diversity\]"),
        ("[unifrom]\n'a' = 1", "unknown table 'unifrom'; did you mean 'uniform'"),
        ("end = 3", r"\[end\]: is a table, got 3"),
        ("[end]\nscore = 1", r"\[end\]: key 'steps' is missing; it needs score, steps"),
        ("[end]\nscore = 1\nsteps = 9\nstep = 2", r"\[end\]: unknown key 'step'; did you mean 'steps'"),
        ("[end]\nscore = 1\nsteps = 2.5", r"\[end\]: 'steps' is a whole number of tokens, at least 2, got 2\.5"),
        ("[end]\nscore = 1\nsteps = 1", "at least 2, got 1"),
        ("[end]\nscore = 1\nsteps = true", "at least 2, got True"),
        ("[diversity]\nscore = '1'", r"\[diversity\]: 'score' is a finite number of nats, got '1'"),
        ("[diversity]\nscore = true", "finite number of nats, got True"),
        ("[diversity]\nscore = inf", "finite number of nats, got inf"),
        ("[diversity]\nscores = 1", "unknown key 'scores'; did you mean 'score'"),
        ("[uniform]", r"\[uniform\]: needs the texts of tokens with their scores"),
        ("[uniform]\n'' = 1", "no text is empty"),
        ("[uniform]\n' I' = [1]", r"\[uniform\]: ' I' is a finite number of nats, got \[1\]"),
        ("[uniform]\n'a' = 1\n'a' = 2", "not TOML"),
        ("[uniform", "not TOML"),
        (b"[uniform]\n'\xff' = 1", "not TOML"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as error:
        load_rules(str(path))
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hewit2024", "neither shipped nor a path to a .toml file; did you mean 'hewitt2024'"),
        ("no/such.toml", r"rules 'no/such\.toml': no such file \(looked at /"),
        ("such.toml", "no such file"),
        ("./folder", "no such file"),
    ],
)
def test_rules_that_are_not_there_are_named(spec, message):
    with pytest.raises(UsageError, match=message):
        load_rules(spec)


def test_settings_come_back_from_their_plain_form():
    for settings in (load_rules(), load_rules().without("uniform"), load_rules().without("end", "diversity")):
        assert rules_of(json.loads(json.dumps(asdict(settings)))) == settings
