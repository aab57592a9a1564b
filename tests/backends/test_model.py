"""A checkpoint behind lm-eval's interface gives what our own passes give; what lm-eval would let through is refused."""

from __future__ import annotations

import gc
import logging
import shutil
import traceback

import numpy as np
import pytest
from completions_server import CompletionsServer
from tokenizers.processors import TemplateProcessing
from tolerances import assert_near, terms
from transformers import AutoTokenizer

from tuneshift.backends.start import answering
from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.errors import EndpointError, MeasureError, UsageError
from tuneshift.measures.generation import generation
from tuneshift.measures.likelihood import likelihood
from tuneshift.prompts.prompt import Prompt

pytest.importorskip("lm_eval.models.huggingface", reason="backends are lm-eval's models (extra `api`)")
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

CONTEXT = 96
TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
WORDS = ("red", "a dark blue", "green", "black, or nearly", "white")
PROMPTS = tuple(
    Prompt(id=f"p{i}", prompt=f"Name colour {'x' * (3 * i)}{i}.", instruction_spans=((0, 4),), reference=word)
    for i, word in enumerate(WORDS * 2)
)
KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def folder(make_checkpoint):
    """A random checkpoint whose end token is likely enough to end about half of its responses."""
    return make_checkpoint("answering", seed=2, template=TEMPLATE)


@pytest.fixture(scope="module")
def ref(folder):
    return ModelRef(name="tiny", model=str(folder))


@pytest.fixture
def serve(folder):
    """Start servers of the checkpoint."""
    started = []

    def start(behave=None):
        started.append(CompletionsServer(folder, behave))
        return started[-1]

    yield start
    for server in started:
        server.close()


def through(server, **args):
    more = "".join(f",{name}={value}" for name, value in args.items())
    return LMBackend(name="local-completions", args=f"base_url={server.url}{more}")


def scored(asked, template, prompts=PROMPTS):
    population = [[p.id, p.prompt, p.reference, p.cluster] for p in prompts]
    take = likelihood(asked, {"chat_template": template, "k": 3, "seed": 0}, {"population": population})
    return list(take(prompts, [None] * len(prompts)))


def generated(asked, template, prompts=PROMPTS, limit=24):
    take = generation(asked, {"chat_template": template, "max_new_tokens": limit}, {})
    return list(take(prompts, [None] * len(prompts)))


def own(ref, template):
    with load(ref, device="cpu") as checkpoint:
        return scored(checkpoint, template), generated(checkpoint, template)


def behind(backend, ref, template):
    if backend.name == "hf":
        with (
            load(ref, device="cpu") as checkpoint,
            answering(backend, ref, dtype="float32", checkpoint=checkpoint) as a,
        ):
            return scored(a, template), generated(a, template)
    with answering(backend, ref, dtype="float32", checkpoint=None) as a:
        return scored(a, template), generated(a, template)


def require_equal(mine, theirs, ref):
    with load(ref, device="cpu") as checkpoint:
        summed = 2 * terms(checkpoint.model, CONTEXT)
    for a, b in zip(mine[0], theirs[0], strict=True):
        assert a.values == b.values
        for name in a.arrays:
            assert_near(a.arrays[name], b.arrays[name], terms=summed)
    texts = [[item.values["response"] for item in items] for items in (mine[1], theirs[1])]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 5  # responses that differ, so that a mix-up of rows shows


@pytest.mark.numerics
@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
def test_lm_evals_hf_gives_what_our_passes_give(ref, template):
    mine = own(ref, template)
    require_equal(mine, behind(LMBackend(name="hf"), ref, template), ref)
    ended = [item.values["ended"] for item in mine[1]]
    assert True in ended  # responses that end amid a batch must not be carried on
    assert False in ended


@pytest.fixture(scope="module")
def beginning(folder, tmp_path_factory):
    """The same checkpoint with a tokenizer that begins every text with a token, unless told not to."""
    copy = tmp_path_factory.mktemp("beginning") / "beginning"
    shutil.copytree(folder, copy)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="</u> $A", special_tokens=[("</u>", tokenizer.convert_tokens_to_ids("</u>"))]
    )
    tokenizer.save_pretrained(copy)
    ids = AutoTokenizer.from_pretrained(copy)("a")["input_ids"]
    assert len(ids) == 2
    return copy


@pytest.mark.numerics
@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
@pytest.mark.parametrize("name", ["hf", "local-completions"])
def test_special_tokens_begin_a_plain_prompt_and_no_chat(beginning, template, name):
    beginning_ref = ModelRef(name="beginning", model=str(beginning))
    server = CompletionsServer(beginning)
    try:
        backend = LMBackend(name="hf") if name == "hf" else through(server)
        require_equal(own(beginning_ref, template), behind(backend, beginning_ref, template), beginning_ref)
    finally:
        server.close()


def test_a_loaded_checkpoints_own_generation_settings_stay_out_and_come_back(ref):
    with load(ref, device="cpu") as checkpoint:
        plain = generated(checkpoint, TEMPLATE)
        own_settings = checkpoint.model.generation_config
        own_settings.repetition_penalty = 5.0
        with answering(LMBackend(name="hf"), ref, dtype="float32", checkpoint=checkpoint) as asked:
            theirs = generated(asked, TEMPLATE)
        assert [i.values["response"] for i in plain] == [i.values["response"] for i in theirs]
        assert checkpoint.model.generation_config is own_settings


@pytest.mark.numerics
@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
@pytest.mark.parametrize("args", [{}, {"batch_size": 4}, {"num_concurrent": 3}], ids=["single", "batch", "concurrent"])
def test_a_completions_server_gives_what_our_passes_give_and_no_weights_are_loaded(
    ref, serve, template, args, monkeypatch
):
    mine = own(ref, template)
    server = serve()
    with monkeypatch.context() as closed:
        closed.setattr("tuneshift.checkpoints.loading._model", lambda *a: pytest.fail("weights were loaded"))
        theirs = behind(through(server, **args), ref, template)
    require_equal(mine, theirs, ref)
    assert {body["model"] for body in server.bodies} == {ref.model}
    assert all(np.ravel(body["prompt"][0]).dtype == np.int64 for body in server.bodies)
    asked = [body for body in server.bodies if not body.get("echo")]
    assert {body["temperature"] for body in asked} == {0}
    assert all("<end>" in body["stop"] for body in asked)


def test_ids_are_of_the_text_and_a_response_under_the_limit_has_ended(ref, serve):
    server = serve(lambda answer, number: (200, {"choices": [{"index": 0, "text": "red"}]}))
    for limit, ended in ((3, False), (4, True)):
        with answering(through(server), ref, dtype="float32", checkpoint=None) as asked:
            (item,) = generated(asked, TEMPLATE, PROMPTS[:1], limit)
            assert item.values == {"response": "red", "ended": ended}
            assert asked.tokenizer.decode(item.arrays["response_ids"]) == "red"


def test_what_a_server_leaves_no_room_for_is_left_out(ref, serve):
    server = serve()
    with answering(through(server), ref, dtype="float32", checkpoint=None) as asked:
        ids = np.full(CONTEXT - 1, 7)
        (value,) = asked.response_logprobs([(ids[:-3], [ids[:3]])])[0]
        assert value < 0
        assert asked.scored_length == CONTEXT - 1
        room = CONTEXT - len(" red") - 1 - 1  # the end token, and the one that scoring generates
        fits, beyond = (
            Prompt(id=str(n), prompt="y" * (room + n), instruction_spans=(), reference="red") for n in (0, 1)
        )
        other = Prompt(id="other", prompt="Say.", instruction_spans=(), reference="blue")
        items = {i.id: i for i in scored(asked, None, (fits, beyond, other))}
        assert items["1"].left_out.startswith("it does not fit the context")
        assert not items["0"].left_out
        assert {len(body["prompt"][0]) for body in server.bodies} >= {CONTEXT - 1}
        assert all(len(body["prompt"][0]) < CONTEXT for body in server.bodies)


def test_the_same_question_is_asked_once_and_an_empty_response_never(ref, serve):
    server = serve()
    context, response = np.arange(5, 15), np.arange(20, 24)
    with answering(through(server), ref, dtype="float32", checkpoint=None) as asked:
        sums = asked.response_logprobs([(context, [response, response[:0]]), (context, [response])])
    assert sums[0][0] == sums[1][0] < 0
    assert sums[0][1] == 0
    assert len(server.bodies) == 1


def test_a_server_that_fails_once_is_asked_again(ref, serve):
    server = serve(lambda answer, number: (500, "overloaded") if number == 1 else answer())
    with answering(through(server), ref, dtype="float32", checkpoint=None) as asked:
        (item,) = generated(asked, TEMPLATE, PROMPTS[:1])
    assert not item.left_out
    assert [body["prompt"] for body in server.bodies] == [server.bodies[0]["prompt"]] * 2


def no_echo(answer, number):
    content = answer()[1]
    for choice in content["choices"]:
        choice["logprobs"] = {k: v[-1:] for k, v in choice["logprobs"].items()}
    return 200, content


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda answer, number: None, "Timeout"),
        (lambda answer, number: (500, "out of memory"), r"500 Server Error.*saying 'out of memory'; up to 1 tries"),
        (lambda answer, number: (404, {"error": "no model"}), r"404 Client Error.*no model"),
        (lambda answer, number: (200, "<html>hello</html>"), "JSON"),
        (lambda answer, number: (200, {"answer": 42}), "KeyError: 'choices'"),
        (lambda answer, number: (200, {"choices": []}), "0 choices for 1 prompts"),
        (lambda answer, number: (200, [1, 2]), "TypeError"),
        (
            no_echo,
            r"log-probabilities of 1 tokens for a prompt of \d+ and one new token; the server has to support echo",
        ),
    ],
    ids=["stalls", "fails", "unknown model", "html", "no choices", "no choice", "list", "no echo"],
)
def test_an_answer_that_is_none_is_an_error_and_never_a_number(ref, serve, behave, message):
    backend = through(serve(behave), max_retries=1, timeout=1)
    with (
        answering(backend, ref, dtype="float32", checkpoint=None) as asked,
        pytest.raises(EndpointError, match=message),
    ):
        scored(asked, TEMPLATE)


@pytest.mark.parametrize(
    "content", [{"choices": []}, {"choices": [{"index": 0, "text": None}]}, {"choices": [{"index": 1, "text": "a"}]}]
)
def test_a_response_that_is_no_text_is_an_error_and_not_an_empty_response(ref, serve, content):
    backend = through(serve(lambda answer, number: (200, content)), max_retries=1)
    with answering(backend, ref, dtype="float32", checkpoint=None) as asked, pytest.raises(EndpointError):
        generated(asked, TEMPLATE)


@pytest.mark.parametrize("args", [{}, {"num_concurrent": 2}], ids=["single", "concurrent"])
def test_the_key_reaches_the_server_and_neither_message_nor_log(ref, serve, args, monkeypatch, caplog, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(lambda answer, number: (401, f"wrong key {KEY}"))
    backend = through(server, max_retries=1, **args)
    with (
        caplog.at_level(logging.DEBUG),
        answering(backend, ref, dtype="float32", checkpoint=None) as asked,
        pytest.raises(EndpointError) as caught,
    ):
        scored(asked, TEMPLATE)
    gc.collect()  # asyncio tells of requests that failed unnoticed when they are freed
    assert server.keys[0] == f"Bearer {KEY}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capfd.readouterr())
    assert "401" in shown
    assert KEY not in shown


def test_half_a_surrogate_pair_in_an_answer_becomes_a_question_mark(ref, serve):
    server = serve(lambda answer, number: (200, '{"choices": [{"index": 0, "text": "a\\ud800b"}]}'))
    with answering(through(server), ref, dtype="float32", checkpoint=None) as asked:
        (item,) = generated(asked, TEMPLATE, PROMPTS[:1])
    assert item.values["response"] == "a?b"


@register_model("tuneshift-test-counting")
class CountingLM(TemplateLM):
    """Scores a response by its length and repeats the prompt's first two characters; made wrong by an argument."""

    def __init__(self, pretrained, tokenizer=None, dtype="auto", wrong="nothing", **engine):
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.given = {"pretrained": pretrained, "tokenizer": tokenizer, "dtype": dtype, **engine}
        self.wrong, self.max_length = wrong, 80
        if wrong == "start":
            raise RuntimeError("CUDA out of memory")

    @property
    def eot_token_id(self):
        return self.tokenizer.eos_token_id

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        ids = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        return [self.eot_token_id, *ids] if self.wrong == "tokens" else ids

    def _loglikelihood_tokens(self, requests, **kwargs):
        scores = [(-float(len(response)), False) for _, _, response in requests]
        wrong = {
            "few": scores[:-1],
            "no number": [(float("nan"), True), *scores[1:]],
            "positive": [(2.0, True), *scores[1:]],
        }
        return wrong.get(self.wrong, scores)

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        if self.wrong == "raises":
            raise ZeroDivisionError("nothing to divide")
        texts = [request.args[0][3:5] for request in requests]
        return texts[:-1] if self.wrong == "few" else texts


def test_any_model_of_lm_evals_registry_can_answer(ref, folder):
    backend = LMBackend(name="tuneshift-test-counting", args="gpu_memory_utilization=0.5")
    with answering(backend, ref, dtype="bfloat16", checkpoint=None) as asked:
        assert asked.lm.given == {
            "pretrained": str(folder), "tokenizer": str(folder), "dtype": "bfloat16", "gpu_memory_utilization": 0.5,
        }  # fmt: skip
        assert (asked.context_length, asked.scored_length) == (80, 79)
        items = scored(asked, TEMPLATE)
        for item, prompt in zip(items, PROMPTS, strict=True):
            assert item.arrays["own"] == -(len(prompt.reference) + 1)
            np.testing.assert_array_equal(item.arrays["unconditional"], -item.arrays["lengths"])
        assert {item.values["response"] for item in generated(asked, TEMPLATE)} == {"Na"}


@pytest.mark.parametrize(
    ("wrong", "what", "message"),
    [
        ("few", scored, r"was asked about \d+ responses for tiny and answered .* not as many"),
        ("few", generated, "was asked about 10 prompts for tiny"),
        ("no number", scored, "answered .*nan"),
        ("positive", scored, r"answered \[2\.0"),
        ("raises", generated, "failed on tiny: ZeroDivisionError: nothing to divide"),
        ("tokens", generated, "would ask tiny other tokens than the pair's format has: .*'<end> <u>"),
    ],
)
def test_what_a_backend_gets_wrong_is_said(ref, wrong, what, message):
    backend = LMBackend(name="tuneshift-test-counting", args=f"wrong={wrong}")
    with answering(backend, ref, dtype="float32", checkpoint=None) as asked, pytest.raises(MeasureError, match=message):
        what(asked, TEMPLATE)


def test_a_backend_that_does_not_start_is_said_with_its_arguments(ref):
    backend = LMBackend(name="tuneshift-test-counting", args="wrong=start")
    with (
        pytest.raises(MeasureError, match=r"does not start for tiny: RuntimeError: CUDA.*arguments are wrong=start"),
        answering(backend, ref, dtype="float32", checkpoint=None),
    ):
        pass


def test_an_adapter_that_a_backend_cannot_take_is_refused(ref, tmp_path, folder):
    adapted = ModelRef(name="adapted", model=ref.model, adapter=str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    backend = LMBackend(name="tuneshift-test-counting")
    with pytest.raises(UsageError, match="merge it"), answering(backend, adapted, dtype="float32", checkpoint=None):
        pass


def test_a_second_measurement_takes_smaller_batches_of_lm_evals_hf_and_gives_the_size_back(ref):
    backend, sizes = LMBackend(name="hf", args="batch_size=4"), []
    with (
        load(ref, device="cpu") as checkpoint,
        answering(backend, ref, dtype="float32", checkpoint=checkpoint) as asked,
    ):
        for name in ("_model_generate", "_model_call"):
            run = getattr(asked.lm, name)

            def spied(*given, run=run, **named):
                sizes.append(len(given[0] if given else named["context"]))
                return run(*given, **named)

            setattr(asked.lm, name, spied)
        population = [[p.id, p.prompt, p.reference, p.cluster] for p in PROMPTS]
        for batch, largest in (({}, 4), ({"batch": 0.5}, 2), ({}, 4)):
            params = {"chat_template": None, "max_new_tokens": 4, "k": 2, "seed": 0, **batch}
            for measure in (generation, likelihood):
                sizes.clear()
                assert list(measure(asked, params, {"population": population})(PROMPTS, [None] * len(PROMPTS)))
                assert max(sizes) == largest, measure
