"""What generation and attribution store of a prompt, and what they leave out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tolerances import assert_near, terms

import tuneshift.measures.attribution.backend as attribution_paths
from tuneshift.checkpoints.llama import NotLlama
from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.measures.attribution import generic as attribution_generic
from tuneshift.measures.attribution.backend import GenericBackend, LlamaBackend, choose_backend, in_float32
from tuneshift.measures.attribution.density import importance_levels
from tuneshift.measures.attribution.llama import LlamaAttribution
from tuneshift.measures.catalogue import ATTRIBUTION, GENERATION
from tuneshift.prompts.prompt import Prompt
from tuneshift.store.evidence import EvidenceItem

PLAIN = {"chat_template": None, "max_new_tokens": 12}
OWN = {**PLAIN, "response": "own"}
REFERENCE = {**PLAIN, "response": "reference"}
PROMPT = Prompt(id="a", prompt="Say red.", instruction_spans=((0, 8),), reference="red")


@pytest.fixture
def checkpoint(tiny_base) -> Iterator[Checkpoint]:
    """The tiny base, whose context has 96 tokens; one byte is one token."""
    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu") as loaded:
        yield loaded


def take(measure, checkpoint, params, prompts, inputs=None) -> list[EvidenceItem]:
    return list(measure.prepare(checkpoint, params)(prompts, inputs or [None] * len(prompts)))


def response(*ids: int) -> EvidenceItem:
    return EvidenceItem(
        id="a", arrays={"response_ids": np.array(ids, dtype=np.int64)}, values={"response": "x", "ended": True}
    )


def test_generation_stores_ids_text_and_end(checkpoint):
    (item,) = take(GENERATION, checkpoint, PLAIN, [PROMPT])
    assert item.arrays["response_ids"].dtype == np.int64
    assert len(item.arrays["response_ids"]) <= 12
    assert item.values["response"] == checkpoint.tokenizer.decode(item.arrays["response_ids"])
    assert item.values["ended"] in (True, False)


def test_responses_under_rules_obey_them_and_say_which_texts_are_no_token(checkpoint):
    favoured = checkpoint.tokenizer("x", add_special_tokens=False)["input_ids"][0]
    rules = {"end": None, "uniform": {"scores": {"x": 100.0, "should": -6.0}}, "diversity": None}
    long = replace(PROMPT, id="long", prompt="a" * 96)  # left out, so that places in the batch and in the set differ
    _, item, other = take(
        GENERATION,
        checkpoint,
        {**PLAIN, "rules": rules, "present": "turn"},
        [long, PROMPT, replace(PROMPT, id="b", prompt="Go on.")],
    )
    assert set(item.arrays["response_ids"].tolist()) == set(other.arrays["response_ids"].tolist()) == {favoured}
    assert item.values["missing"] == ["should"]
    rules = {"end": {"score": 1000.0, "steps": 4}, "uniform": None, "diversity": None}
    (item,) = take(GENERATION, checkpoint, {**PLAIN, "rules": rules, "present": "turn"}, [PROMPT])
    assert item.values["ended"]
    assert len(item.arrays["response_ids"]) == 1  # nothing at t = 0, then the end


def test_attribution_stores_importance_offsets_and_tokens(checkpoint):
    (item,) = take(ATTRIBUTION, checkpoint, OWN, [PROMPT], [response(20, 30, 40)])
    assert item.arrays["importance"].shape == (8, 3)
    assert item.arrays["importance"].dtype == np.float32
    assert item.arrays["offsets"].tolist() == [[i, i + 1] for i in range(8)]
    assert "".join(item.values["tokens"]) == "Say red."
    assert len(item.values["response_tokens"]) == 3


CHAT = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}<a>"
IN_CHAT = {**OWN, "chat_template": CHAT}
OF_TEXT = {**IN_CHAT, "attributed_rows": "text"}


def of_path(path: str, checkpoint, monkeypatch, params, given) -> EvidenceItem:
    if path == "generic":
        monkeypatch.setattr(attribution_paths, "llama_blocks", lambda model: NotLlama(reason="not asked for"))
    (item,) = take(ATTRIBUTION, checkpoint, params, [PROMPT], [given])
    assert item.values["path"] == path
    return item


@pytest.mark.numerics
@pytest.mark.parametrize("path", ["llama", "generic"])
def test_the_templates_rows_are_left_out_where_the_path_saves_work_by_it(checkpoint, monkeypatch, path):
    given = response(20, 30, 40)
    every = of_path(path, checkpoint, monkeypatch, IN_CHAT, given).arrays["importance"]
    text = of_path(path, checkpoint, monkeypatch, OF_TEXT, given)
    beside, found = text.arrays["offsets"][:, 0] < 0, text.arrays["importance"]
    assert beside.sum() == 3
    assert not np.isnan(every).any()
    assert np.isnan(found).all(axis=1).tolist() == beside.tolist()
    assert_near(found[~beside], every[~beside], terms=2 * terms(checkpoint.model, 16, passes=3))
    # Levels over the user's text, which verdicts read, are the same numbers.
    levels = [importance_levels(rows, scope=~beside) for rows in (found, every)]
    assert np.array_equal(*levels)
    assert levels[0].max() == 10


@pytest.mark.numerics
@pytest.mark.parametrize("path", ["llama", "generic"])
def test_thinned_evidence_is_what_evidence_of_all_response_tokens_is_cut_down_to(checkpoint, monkeypatch, path):
    given = response(*range(20, 33))
    every = of_path(path, checkpoint, monkeypatch, IN_CHAT, given)
    params = {**IN_CHAT, "attributed_response_tokens": 5}
    some, cut = of_path(path, checkpoint, monkeypatch, params, given), ATTRIBUTION.narrow(every, params)
    assert some.values == cut.values
    assert some.values["thinned_from"] == 13
    assert len(some.values["response_tokens"]) == 5
    error = terms(checkpoint.model, 24, passes=3)
    assert_near(some.arrays["importance"], cut.arrays["importance"], terms=2 * error)
    assert cut.arrays["importance"].shape[1] == 5
    enough = of_path(path, checkpoint, monkeypatch, {**IN_CHAT, "attributed_response_tokens": 13}, given)
    assert "thinned_from" not in enough.values


@pytest.mark.parametrize("path", ["llama", "generic"])
def test_an_attribution_says_which_path_took_it_and_the_checkpoint_that_memory_ran_out(checkpoint, monkeypatch, path):
    if path == "generic":
        monkeypatch.setattr(attribution_paths, "llama_blocks", lambda model: NotLlama(reason="not asked for"))
    assert checkpoint.computed == {"device": "cpu", "attention": "sdpa", "reduced": {}}
    failing = [torch.OutOfMemoryError("CUDA out of memory")]
    for kind in (attribution_generic, LlamaAttribution):
        run = kind.importance

        def once(*given, run=run, **named):
            if failing and len(given[-2]) == 8:  # the prompt, and not a probe
                raise failing.pop()
            return run(*given, **named)

        monkeypatch.setattr(kind, "importance", once)
    (item,) = take(ATTRIBUTION, checkpoint, OWN, [PROMPT], [response(20, 30, 40)])
    assert item.values["path"] == path
    assert checkpoint.computed["reduced"] == {"derivatives taken together": 2048 if path == "llama" else 4}


def test_a_reference_continues_a_plain_prompt_after_a_space_and_a_chat_without(checkpoint):
    (plain,) = take(ATTRIBUTION, checkpoint, REFERENCE, [PROMPT])
    assert "".join(plain.values["response_tokens"]) == " red"
    template = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}<a>"
    (chat,) = take(ATTRIBUTION, checkpoint, {**REFERENCE, "chat_template": template}, [PROMPT])
    assert "".join(chat.values["response_tokens"]) == "red"
    assert (chat.arrays["offsets"][:, 0] < 0).sum() == 3  # <u>, </u>, <a>


def test_prompts_that_do_not_fit_are_left_out_with_the_reason_and_never_cut(checkpoint):
    long = replace(PROMPT, id="long", prompt="a" * 96)
    for item in take(GENERATION, checkpoint, PLAIN, [long, PROMPT])[:1]:
        assert item.left_out == "it does not fit the context of 96 tokens"
    fits_alone = replace(PROMPT, id="b", prompt="a" * 94)
    (item,) = take(ATTRIBUTION, checkpoint, REFERENCE, [fits_alone])
    assert item.left_out == "it does not fit the context of 96 tokens"
    assert not item.arrays


def test_other_reasons_to_leave_a_prompt_out(checkpoint):
    (item,) = take(ATTRIBUTION, checkpoint, REFERENCE, [replace(PROMPT, reference=None)])
    assert item.left_out == "it has no reference response"
    (item,) = take(ATTRIBUTION, checkpoint, OWN, [PROMPT], [EvidenceItem(id="a", left_out="too long")])
    assert item.left_out == "too long"
    (item,) = take(ATTRIBUTION, checkpoint, OWN, [PROMPT], [response(10_000)])
    assert "tokens that this model does not have" in item.left_out


def test_an_empty_response_has_no_importance_and_is_kept(checkpoint):
    (item,) = take(ATTRIBUTION, checkpoint, OWN, [PROMPT], [response()])
    assert item.left_out is None
    assert item.arrays["importance"].shape == (8, 0)


def wide_copy(checkpoint):
    """The same weights in a float32 model of their own."""
    import copy

    return copy.deepcopy(checkpoint.model).float()


def test_what_half_precision_costs_is_taken_in_float32_without_a_copy_of_the_weights(tiny_base, monkeypatch):
    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu", dtype="bfloat16") as checkpoint:
        exact = choose_backend(wide_copy(checkpoint))(torch.arange(20, 28), torch.tensor([20, 30, 40]))
        backend = choose_backend(checkpoint.model)
        before = [(p.data_ptr(), p.dtype) for p in checkpoint.model.parameters()]
        with in_float32(backend) as widened:
            assert [(p.data_ptr(), p.dtype) for p in checkpoint.model.parameters()] == before
            found = widened(torch.arange(20, 28), torch.tensor([20, 30, 40]))
        assert backend.name == widened.name == "llama"
        assert torch.equal(found, exact)  # difference 0.0
        assert not torch.equal(backend(torch.arange(20, 28), torch.tensor([20, 30, 40])).float(), exact)


def test_the_generic_path_widens_for_the_comparison_and_puts_back(tiny_base):
    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu", dtype="bfloat16") as checkpoint:
        backend = GenericBackend(model=checkpoint.model)
        exact = GenericBackend(model=wide_copy(checkpoint))(torch.arange(20, 28), torch.tensor([20, 30, 40]))
        with in_float32(backend) as widened:
            assert torch.equal(widened(torch.arange(20, 28), torch.tensor([20, 30, 40])), exact)
        assert {p.dtype for p in checkpoint.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("path", [LlamaBackend, GenericBackend])
def test_float32_that_does_not_fit_costs_the_comparison_and_not_the_measurement(tiny_base, monkeypatch, path):
    asked = []

    def no_room(self, prompt, response, **asked_for):
        if getattr(self, "dtype", None) is torch.float32 or self.model.dtype == torch.float32:
            asked.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.ones(len(prompt), len(response))

    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu", dtype="bfloat16") as checkpoint:
        if path is GenericBackend:
            monkeypatch.setattr(attribution_paths, "llama_blocks", lambda model: NotLlama(reason="asked for"))
        prepared = ATTRIBUTION.prepare(checkpoint, OWN)
        monkeypatch.setattr(path, "__call__", no_room)
        with pytest.warns(UserWarning, match="what bfloat16 costs against float32 was not taken") as warned:
            items = list(prepared([PROMPT, replace(PROMPT, id="b")], [response(20, 30), response(20, 30)]))
        assert {p.dtype for p in checkpoint.model.parameters()} == {torch.bfloat16}
    assert len(asked) == len([w for w in warned if "bfloat16" in str(w.message)]) == 1  # not tried again
    assert [item.arrays["importance"].shape for item in items] == [(8, 2), (8, 2)]
    assert not any("precision_cost" in item.values for item in items)


@pytest.fixture
def thinker(make_checkpoint) -> Iterator[Checkpoint]:
    folder = make_checkpoint("thinker", seed=4, extra_tokens=("<think>", "</think>"))
    with load(ModelRef(name="thinker", model=str(folder)), device="cpu") as loaded:
        yield loaded


def said(thinker, monkeypatch, text, **params) -> EvidenceItem:
    """Generation evidence where the model writes ``text``."""
    from tuneshift.checkpoints.decoding import Response
    from tuneshift.measures import generation

    ids = np.array(thinker.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
    made = [Response(ids=ids, ended=False, text=text)]
    monkeypatch.setattr(generation, "greedy_responses", lambda *_, **__: made)
    asked = {"chat_template": None, "max_new_tokens": 40, "thinking": ["<think>", "</think>"], **params}
    return take(GENERATION, thinker, asked, [PROMPT])[0]


def test_a_response_is_what_follows_the_thoughts(thinker, monkeypatch):
    item = said(thinker, monkeypatch, "<think>blue?</think>\n\nRed.")
    assert item.values["response"] == "Red."
    assert item.values["thoughts"] == {"text": "<think>blue?</think>", "tokens": 7, "ended": True}
    assert (len(item.arrays["thought_ids"]), len(item.arrays["response_ids"])) == (7, 6)
    cut = said(thinker, monkeypatch, "<think>red or blue")
    assert (cut.values["response"], len(cut.arrays["response_ids"])) == ("", 0)
    assert not cut.values["thoughts"]["ended"]
    opened = "{{ messages[0].content }}<think>"
    assert said(thinker, monkeypatch, "x</think>Red.", chat_template=opened).values["response"] == "Red."
    assert "thoughts" not in said(thinker, monkeypatch, "Red.").values
    whole = "<think>x</think>Red."
    assert said(thinker, monkeypatch, whole, thinking=None).values["response"] == whole


@pytest.mark.numerics
def test_attribution_begins_after_the_thoughts_which_are_context(thinker, monkeypatch):
    item = said(thinker, monkeypatch, "<think>ab</think>Red")
    (found,) = take(ATTRIBUTION, thinker, OWN, [PROMPT], [item])
    assert found.arrays["importance"].shape == (8 + 4, 3)
    assert (found.arrays["offsets"][8:] == -1).all()
    assert found.values["tokens"][8:] == ["<think>", "a", "b", "</think>"]
    assert found.values["response_tokens"] == ["R", "e", "d"]
    assert found.values["thoughts"]["tokens"] == 4
    (included,) = take(ATTRIBUTION, thinker, {**OWN, "thoughts": "response"}, [PROMPT], [item])
    assert included.arrays["importance"].shape == (8, 4 + 3)
    assert "".join(included.values["response_tokens"]) == "<think>ab</think>Red"
    whole = thinker.tokenizer("Say red.<think>ab</think>", add_special_tokens=False)["input_ids"]
    plain = replace(PROMPT, prompt="Say red.<think>ab</think>")
    (context,) = take(ATTRIBUTION, thinker, OWN, [plain], [response(*item.arrays["response_ids"])])
    assert len(whole) == 12
    assert_near(found.arrays["importance"], context.arrays["importance"], terms=2 * terms(thinker.model, 15, passes=3))
