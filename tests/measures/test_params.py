"""What the evidence key of each measure holds: the keys that stores of today are filled under."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.engine.plan import Planner
from tuneshift.engine.settings import Settings
from tuneshift.errors import MeasureError
from tuneshift.measures import catalogue
from tuneshift.measures.catalogue import MEASURES
from tuneshift.measures.params import HELD, measure_of, split_format
from tuneshift.pairs import ModelPair
from tuneshift.prompts.chat import ChatFormat
from tuneshift.prompts.prompt import Prompt, PromptSet

PROMPTS = PromptSet(
    name="set",
    source="set.jsonl",
    prompts=tuple(Prompt(id=i, prompt=f"Do {i}.", instruction_spans=((0, 4),), reference="yes") for i in "abc"),
)
PAIR = ModelPair(name="p", base=ModelRef(name="B", model="B"), tuned=ModelRef(name="T", model="T"))
SERVER = LMBackend(name="local-completions", args="base_url=http://127.0.0.1:1/v1/completions,model=m,max_length=64")


class Offline(Planner):
    """A planner of checkpoints that are not there: three layers, width 128, one template."""

    def fingerprint(self, ref: ModelRef) -> str:
        return f"fingerprint of {ref.model}"

    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        return "{{ messages[0].content }}"

    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        return (0, 3)

    def thinking(self, pair: ModelPair) -> tuple[str, str] | None:
        return None

    def shape(self, ref: ModelRef) -> tuple[int, int]:
        return 3, 128


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Words and word space of two words, by content."""
    (tmp_path / "words.txt").write_text("sort\nlist\n", encoding="utf-8")
    (tmp_path / "space.txt").write_text("2 2\nsort 1 0\nlist 0 1\n", encoding="utf-8")
    return {"vocabulary": str(tmp_path / "words.txt"), "word_vectors": str(tmp_path / "space.txt")}


KEYS = {
    ("annotation", (("annotator", "openai:m@http://h/v1"),), None): "65d693fe38e59a44",
    ("generation", (), None): "35baea794df84eb4",
    ("generation", (("max_new_tokens", 7),), None): "72bfcae1472fd6d1",
    ("generation", (("backend", SERVER),), None): "cc8836ca0fce044f",
    ("generation.local", (("backend", SERVER),), None): "35baea794df84eb4",
    ("generation.rules", (), None): "f2de09d3612c0326",
    ("generation.rules-end", (), None): "79090058ffd44bbe",
    ("generation.rules+text", (), None): "f14f0e9066c5bcbe",
    ("likelihood", (), None): "ddb13d76cdaa2da0",
    ("likelihood", (("backend", SERVER),), None): "0d6b813c913a3f18",
    ("text", (), None): "e7bf2890f04cf59d",
    ("text", (), 0.5): "ed4bbd7b1686ed93",
    ("attribution", (), None): "66114d237bad6d71",
    ("attribution", (("response", "reference"),), None): "6d60385dff5e5de6",
    ("attribution", (("response", "tuned"),), None): "7f6932fce6b7a6f6",
    ("attribution.contrast", (), None): "6d60385dff5e5de6",
    ("attribution.contrast", (("response", "tuned"),), None): "66114d237bad6d71",
    ("attribution", (("attribute_template", "yes"),), None): "54dd18b65e24c9f7",
    ("attribution.contrast", (("attribute_template", "yes"),), None): "f1f63f683295a243",
    ("attribution", (("attribute_tokens", 300),), None): "66114d237bad6d71",
    ("attribution", (("attribute_tokens", 32),), None): "7a3d1f7b80ee456e",
    ("relations", (), None): "5ff654dee449bda8",
    ("relations", (("dtype", "bfloat16"),), None): "a2fd53cdeed582da",
    ("concepts", (), None): "d41346cc2012d21f",
    ("generation", (), 0.5): "6ff0198d4826dff1",
    ("likelihood", (), 0.5): "39da86fb49799607",
    ("attribution", (), 0.5): "ec845283ca9fe816",
    ("relations", (), 0.5): "5ff654dee449bda8",
    ("concepts", (), 0.5): "d41346cc2012d21f",
}
"""(need, settings, share of the usual batch) -> first digits of the digest, worked out before the parameters had a
module of their own; those of attributions anew when `--shift-attribute-template` came, with whose ``yes`` they are what
they were. A digest that changes leaves every store of today behind: say so in CHANGELOG."""


@pytest.mark.parametrize(("need", "more", "share"), KEYS, ids=str)
def test_keys_are_those_that_stores_are_filled_under(need, more, share, settings):
    planner = Offline(settings=Settings(**settings, **dict(more)), batch_share=share)
    assert planner.task(PAIR, "base", need, PROMPTS).key.digest[:16] == KEYS[need, more, share]


def test_every_measure_says_what_its_key_holds_and_has_a_pinned_key():
    assert set(HELD) == set(MEASURES) == {need.partition(".")[0] for need, _, _ in KEYS}


def key_of(need: str, planner: Planner, pair: ModelPair = PAIR) -> str:
    return planner.task(pair, "base", need, PROMPTS).key.digest


def test_a_shared_response_of_the_checkpoint_itself_is_its_own_under_one_key(settings):
    own, shared = (Offline(settings=Settings(**settings, response=mode)) for mode in ("own", "tuned"))
    keys = [planner.task(PAIR, "tuned", "attribution", PROMPTS).key for planner in (own, shared)]
    assert keys[0] == keys[1]
    assert shared.task(PAIR, "base", "attribution", PROMPTS).params["response"] == "tuned"


@pytest.mark.parametrize("response", ["own", "tuned"])
def test_an_attribution_names_the_generation_whose_response_it_explains(settings, response, monkeypatch):
    def task():
        planner = Offline(settings=Settings(**settings, response=response))
        return planner.task(PAIR, "base", "attribution", PROMPTS)

    now = task()
    assert now.params["author"] == now.depends_on.key.digest
    newer = replace(catalogue.GENERATION, version=catalogue.GENERATION.version + 1)
    monkeypatch.setitem(MEASURES, "generation", newer)  # type: ignore[arg-type]
    assert task().key.digest != now.key.digest


def test_an_attribution_to_references_rests_on_no_generation(settings):
    task = Offline(settings=Settings(**settings, response="reference")).task(PAIR, "base", "attribution", PROMPTS)
    assert task.depends_on is None
    assert task.params["author"] is None


class Other(Offline):
    """A planner whose formats write alike where their templates are the same."""

    def chat(self, pair, ref, asked_in=None):
        given = {None: "{{ messages[0].content }}", "plain": "Q: {{ messages[0].content }}", "paper": None}[asked_in]
        return ChatFormat(template=given or "{{ messages[0].content }}")


@pytest.mark.parametrize("need", ["generation", "generation.local", "generation.rules", "generation.rules-end",
                                  "attribution"])  # fmt: skip
def test_a_need_in_another_format_is_the_same_evidence_where_that_writes_alike(need, settings):
    planner = Other(settings=Settings(**settings))
    assert key_of(f"{need}.paper", planner) == key_of(need, planner)
    assert key_of(f"{need}.plain", planner) != key_of(need, planner)
    task = planner.task(PAIR, "base", f"{need}.plain", PROMPTS)
    assert task.params["chat_template"] == "Q: {{ messages[0].content }}"
    assert task.asked_in == "plain"
    assert planner.task(PAIR, "base", f"{need}.paper", PROMPTS).asked_in is None
    rest = {k: v for k, v in task.params.items() if k not in ("chat_template", "author")}
    usual = planner.task(PAIR, "base", need, PROMPTS).params
    assert rest == {k: v for k, v in usual.items() if k not in ("chat_template", "author")}


def test_an_attribution_in_a_plain_format_explains_the_response_that_was_given_in_it(settings):
    planner = Other(settings=Settings(**settings))
    task = planner.task(PAIR, "base", "attribution.plain", PROMPTS)
    assert task.depends_on.key.digest == key_of("generation.plain", planner)
    shared = Other(settings=Settings(**settings, response="tuned"))
    of_tuned = shared.task(PAIR, "base", "attribution.plain", PROMPTS).depends_on
    assert of_tuned.key.digest == shared.task(PAIR, "tuned", "generation", PROMPTS).key.digest


def test_a_format_is_the_end_of_a_need_and_not_of_every_measure():
    assert split_format("generation.rules.plain") == ("generation.rules", "plain")
    assert split_format("generation") == ("generation", None)
    assert split_format("generation.rules") == ("generation.rules", None)
    assert measure_of("attribution.plain").name == "attribution"
    with pytest.raises(MeasureError, match="likelihood is not taken in another format"):
        measure_of("likelihood.plain")


class Dated(Offline):
    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        return "{{ strftime_now('%Y') }}{{ messages[0].content }}"


class OtherEnds(Offline):
    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        return (0, 4)


class Thinks(Offline):
    def thinking(self, pair: ModelPair) -> tuple[str, str] | None:
        return "<think>", "</think>"


@pytest.mark.parametrize("need", ["generation", "generation.rules", "likelihood", "attribution"])
def test_the_day_the_variables_the_ends_and_the_tags_of_thoughts_are_in_the_keys_that_they_change(need, settings):
    options = Settings(**settings)
    plain, dated = Offline(settings=options), Dated(settings=options)
    later = replace(PAIR, chat_date=date(2025, 3, 1))
    assert key_of(need, plain) == key_of(need, plain, later)  # its template shows no day
    assert key_of(need, dated) != key_of(need, dated, later)
    told = replace(PAIR, chat_template_kwargs={"enable_thinking": False})
    assert key_of(need, plain) != key_of(need, plain, told)
    for other in (OtherEnds(settings=options), Thinks(settings=options)):
        assert (key_of(need, plain) == key_of(need, other)) is (
            need == "likelihood"
        )  # references neither end nor think


@pytest.mark.parametrize("need", ["generation", "generation.rules", "likelihood", "attribution"])
def test_what_a_key_holds_is_plain_json(need, settings):
    task = Thinks(settings=Settings(**settings)).task(PAIR, "base", need, PROMPTS)
    assert json.loads(json.dumps(task.params)) == task.params


def test_thoughts_are_a_response_of_their_own_where_there_are_any(settings):
    plain, thinks = Offline(settings=Settings(**settings)), Thinks(settings=Settings(**settings))
    assert key_of("attribution.thoughts", plain) == key_of("attribution", plain)
    assert key_of("attribution.thoughts", thinks) != key_of("attribution", thinks)


def test_evidence_that_holds_more_is_named_by_the_keys_of_requests_of_more(settings):
    def task(**more):
        found = Offline(settings=Settings(**settings, **more)).task(PAIR, "base", "attribution", PROMPTS)
        assert found is not None
        return found

    text, every = {"attribute_template": "no"}, {"attribute_template": "yes"}
    assert task(**every).wider == ()
    assert task(**text).wider == (task(**every).key,)
    assert task(**every, attribute_tokens=32).wider == (task(**every).key,)
    wider = task(**text, attribute_tokens=32).wider
    assert wider == (task(**text).key, task(**every, attribute_tokens=32).key, task(**every).key)
    # Other places, not fewer of the same.
    assert task(**text, attribute_tokens=64).key not in wider


def test_as_many_tokens_as_the_longest_response_has_are_all(settings):
    keys = [
        Offline(settings=Settings(**settings, attribute_tokens=n)).task(PAIR, "base", "attribution", PROMPTS).key
        for n in (None, 299, 300, 301)
    ]
    assert keys[0] == keys[2] == keys[3] != keys[1]
