"""Every input that changes a measure's numbers changes its key, one at a time; no other input does.

A row for each measure names the inputs that its numbers rest on. A measure, setting or field without a row fails here:
say for a new one which keys it is part of, or why it is part of none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.engine import plan
from tuneshift.engine.plan import Planner
from tuneshift.engine.settings import Settings
from tuneshift.measures import params
from tuneshift.measures.catalogue import MEASURES
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt, PromptSet

PROMPTS = tuple(
    Prompt(id=i, prompt=f"Do {i}.", instruction_spans=((0, 4),), reference=f"yes {i}", cluster=i) for i in "abc"
)
PAIR = ModelPair(name="p", base=ModelRef(name="B", model="B"), tuned=ModelRef(name="T", model="T"))
WORDS, SPACE = "sort\nlist\n", "2 2\nsort 1 0\nlist 0 1\n"


@dataclass(kw_only=True)
class World:
    """All that a key may be made of; `inputs` changes one thing of it."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    pair: ModelPair = PAIR
    prompts: tuple[Prompt, ...] = PROMPTS
    weights: dict[str, str] = field(default_factory=dict)
    template: str = "{{ date_string }} {{ messages[0].content }}"
    ends: tuple[int, ...] = (0,)
    shape: tuple[int, int] = (3, 128)
    share: float | None = None

    def base(self, **changed: Any) -> None:
        self.pair = replace(self.pair, base=replace(self.pair.base, **changed))

    def prompt(self, **changed: Any) -> None:
        self.prompts = (replace(self.prompts[0], **changed), *self.prompts[1:])

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return str(self.folder / name)

    def key(self, need: str, more: dict[str, Any]) -> str:
        """Digest of the base checkpoint's evidence."""
        planner = Offline(settings=Settings(**{**more, **self.settings}), batch_share=self.share)
        planner.world = self
        task = planner.task(self.pair, "base", need, PromptSet(name="set", source="s", prompts=self.prompts))
        assert task is not None
        return task.key.digest


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Checkpoints, words and prompts as they are before anything changes; no two formats write alike."""
    monkeypatch.setattr(plan, "same_format", lambda *_: False)
    made = World(folder=tmp_path)
    words, space = made.file("words.txt", WORDS), made.file("space.txt", SPACE)
    made.pair = replace(made.pair, vocabulary=words, word_vectors=space)
    return made


class Offline(Planner):
    """A planner of checkpoints that are not there."""

    world: World

    def fingerprint(self, ref: ModelRef) -> str:
        return self.world.weights.get(str(ref.model), f"fingerprint of {ref.model}")

    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        return ref.chat_template or self.world.template

    def shape(self, ref: ModelRef) -> tuple[int, int]:
        return self.world.shape

    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        return self.world.ends

    def thinking(self, pair: ModelPair) -> tuple[str, ...] | None:
        return getattr(pair, "thinking", None)


Change = Callable[[World, pytest.MonkeyPatch], object]


def setting(**changed: Any) -> Change:
    return lambda world, _: world.settings.update(changed)


def pair(**changed: Any) -> Change:
    return lambda world, _: setattr(world, "pair", replace(world.pair, **changed))


def of_base(**changed: Any) -> Change:
    return lambda world, _: world.base(**changed)


def prompt(**changed: Any) -> Change:
    return lambda world, _: world.prompt(**changed)


def words(place: str, name: str, text: str) -> Change:
    """Another file of words or vectors, named by the setting or by the pair."""

    def change(world: World, _: pytest.MonkeyPatch) -> None:
        path = world.file(f"other-{name}.txt", text)
        if place == "setting":
            world.settings[name] = path
        else:
            world.pair = replace(world.pair, **{name: path})

    return change


def constant(name: str, value: Any) -> Change:
    return lambda _, monkeypatch: monkeypatch.setattr(params, name, value)


def version(measure: str) -> Change:
    newer = replace(MEASURES[measure], version=MEASURES[measure].version + 1)
    return lambda _, monkeypatch: monkeypatch.setitem(MEASURES, measure, newer)


CONSTANTS: dict[str, Any] = {
    "RANKED": {"k": 6, "seed": 0},
    "RELATED": {"top": 9, "z": 1.96, "frequent": 3000},
    "NOISE": (0.1,),
    "CONCEPTS_KEPT": 7,
}
"""Numbers of `measures.params` that measures compute with, and others."""
OTHER_WORDS, OTHER_SPACE = f"{WORDS}name\n", "2 2\nsort 1 1\nlist 0 1\n"
INPUTS: dict[str, Change] = {
    "weights": lambda world, _: world.weights.update(B="other"),
    "tuned weights": lambda world, _: world.weights.update(T="other"),
    "template": lambda world, _: setattr(world, "template", "{{ 1 }}"),
    "ends": lambda world, _: setattr(world, "ends", (0, 1)),
    "width": lambda world, _: setattr(world, "shape", (3, 64)),
    "batches": lambda world, _: setattr(world, "share", 0.5),
    **{f"version {measure}": version(measure) for measure in MEASURES},
    **{f"constant {name}": constant(name, value) for name, value in CONSTANTS.items()},
    "Settings.response": setting(response="reference"),
    "Settings.attribute_tokens": setting(attribute_tokens=6),
    "Settings.attribute_template": setting(attribute_template="yes"),
    "Settings.max_new_tokens": setting(max_new_tokens=7),
    "Settings.vocabulary": words("setting", "vocabulary", OTHER_WORDS),
    "Settings.word_vectors": words("setting", "word_vectors", OTHER_SPACE),
    "Settings.annotator": setting(annotator="openai:m@http://h/v1"),
    "Settings.rules": lambda world, _: world.settings.update(
        rules=world.file("rules.toml", "[end]\nscore = 1.0\nsteps = 3\n")
    ),
    "Settings.base_format": setting(base_format="both"),
    "Settings.plain_format": setting(plain_format="{{ 3 }}"),
    "Settings.judges": setting(judges=("similarity",)),
    "Settings.backend": setting(backend=LMBackend(name="hf")),
    "Settings.dtype": setting(dtype="bfloat16"),
    "Settings.device": setting(device="cuda"),
    "Settings.memo": setting(memo=Path("memo.json")),
    "ModelPair.name": pair(name="q"),
    "ModelPair.siblings": pair(siblings={"response_tuned": ModelRef(name="R", model="R")}),
    "ModelPair.attribute_tokens": pair(attribute_tokens=6),
    "ModelPair.max_new_tokens": pair(max_new_tokens=7),
    "ModelPair.vocabulary": words("pair", "vocabulary", OTHER_WORDS),
    "ModelPair.word_vectors": words("pair", "word_vectors", OTHER_SPACE),
    "ModelPair.chat_date": pair(chat_date=date(2025, 1, 2)),
    "ModelPair.chat_template_kwargs": pair(chat_template_kwargs={"enable_thinking": False}),
    "ModelPair.plain_format": pair(plain_format="{{ 3 }}"),
    "ModelPair.thinking": pair(thinking=("<think>", "</think>")),
    "ModelRef.name": of_base(name="C"),
    "ModelRef.dtype": of_base(dtype="float16"),
    "ModelRef.device_map": of_base(device_map="auto"),
    "ModelRef.chat_template": of_base(chat_template="{{ 2 }}"),
    "ModelRef.backend": of_base(backend=LMBackend(name="hf")),
    "Prompt.id": prompt(id="z"),
    "Prompt.prompt": prompt(prompt="Say it."),
    "Prompt.reference": prompt(reference="no"),
    "Prompt.cluster": prompt(cluster="b"),
    "Prompt.topic": prompt(topic="b"),
    "Prompt.instruction_spans": prompt(instruction_spans=((0, 2),)),
    "Prompt.group": prompt(group="g"),
    "Prompt.verify": prompt(verify={"kind": "exact", "answers": ["a"]}),
    "Prompt.fields": prompt(fields={"rating": 3}),
}
NO_INPUTS = {
    **dict.fromkeys(
        ("ModelRef.model", "ModelRef.revision", "ModelRef.adapter"), "where weights lie: in the fingerprint"
    ),
    "ModelRef.trust_remote_code": "the code is in the fingerprint",
    **dict.fromkeys(
        ("ModelRef.evidence", "ModelRef.role", "ModelPair.recorded"), "recorded evidence is read and never measured"
    ),
    **dict.fromkeys(("ModelPair.base", "ModelPair.tuned"), "checkpoints, field by field"),
    "ModelPair.prompts": "where prompts lie: they are the prompt set, field by field",
    **dict.fromkeys(
        ("ModelPair.expectations", "ModelPair.ratings", "ModelPair.single_task"), "read when a claim is decided"
    ),
}

ANY = {"weights", "Settings.dtype", "ModelRef.dtype"}
ASKED = ANY | {"template", "batches", "ModelRef.chat_template", "ModelPair.chat_date", "ModelPair.chat_template_kwargs"}
ASKED |= {"Prompt.id", "Prompt.prompt", "Prompt.reference"}
LENGTH = {"Settings.max_new_tokens", "ModelPair.max_new_tokens"}
BACKEND = {"Settings.backend", "ModelRef.backend"}
RESPONDING = ASKED | LENGTH | {"version generation", "ends", "ModelPair.thinking"}
FORMAT = {"template", "ModelRef.chat_template", "ModelPair.chat_date", "ModelPair.chat_template_kwargs"}
IN_PLAIN = (RESPONDING - FORMAT) | {"Settings.plain_format", "ModelPair.plain_format"}
ATTRIBUTED = {"Settings.attribute_tokens", "ModelPair.attribute_tokens", "Settings.attribute_template"}
ATTRIBUTED |= {"version attribution"}
VOCABULARY = {"Settings.vocabulary", "ModelPair.vocabulary"}
SPACE_OF_WORDS = {"Settings.word_vectors", "ModelPair.word_vectors"}
DIRECTIONS = ANY | VOCABULARY | {"version concepts", "width", "constant NOISE", "constant CONCEPTS_KEPT"}
ROWS: dict[tuple[str, str], set[str]] = {
    ("generation", "own"): RESPONDING | BACKEND,
    ("generation.rules", "own"): RESPONDING | {"Settings.rules"},
    ("generation.plain", "own"): IN_PLAIN | BACKEND,
    ("generation.rules.plain", "own"): IN_PLAIN | {"Settings.rules"},
    # As plain text, whatever the format; a set's hash has its references too.
    ("text", "own"): ANY | BACKEND | {"batches", "Prompt.id", "Prompt.prompt", "Prompt.reference", "version text"},
    ("attribution.plain", "own"): IN_PLAIN | ATTRIBUTED | {"Settings.response"},
    ("likelihood", "own"): ASKED
    | BACKEND
    | {"version likelihood", "constant RANKED", "Prompt.cluster", "Prompt.topic"},
    ("attribution", "own"): RESPONDING | ATTRIBUTED | {"Settings.response"},
    ("attribution", "tuned"): RESPONDING | ATTRIBUTED | {"Settings.response", "tuned weights"},
    ("attribution", "reference"): ASKED | LENGTH | ATTRIBUTED,
    ("attribution.contrast", "reference"): RESPONDING | ATTRIBUTED,
    ("relations", "own"): ANY | VOCABULARY | SPACE_OF_WORDS | {"version relations", "constant RELATED"},
    ("concepts", "own"): DIRECTIONS,
    ("annotation", "own"): DIRECTIONS | SPACE_OF_WORDS | {"version annotation", "Settings.annotator"},
}
"""(need, --shift-response) -> what the numbers rest on."""
CASES = [pytest.param(*row, name, id=f"{row[0]}-{row[1]}-{name}") for row in ROWS for name in INPUTS]


@pytest.mark.parametrize(("need", "mode", "name"), CASES)
def test_a_key_changes_with_what_the_numbers_rest_on_and_with_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, need: str, mode: str, name: str
):
    before = world.key(need, {"response": mode})
    assert world.key(need, {"response": mode}) == before
    INPUTS[name](world, monkeypatch)
    assert (world.key(need, {"response": mode}) != before) is (name in ROWS[need, mode])


@pytest.mark.parametrize("need", ["generation", "likelihood", "attribution"])
def test_the_day_is_in_no_key_where_the_template_does_not_write_it(world: World, need: str):
    world.template = "{{ messages[0].content }}"
    before = world.key(need, {})
    world.pair = replace(world.pair, chat_date=date(2025, 1, 2))
    assert world.key(need, {}) == before


def test_every_measure_has_a_row():
    assert set(params.HELD) == set(MEASURES) == {need.partition(".")[0] for need, _ in ROWS}


@pytest.mark.parametrize("kind", [Settings, ModelPair, ModelRef, Prompt], ids=lambda kind: kind.__name__)
def test_every_field_is_an_input_or_has_its_reason(kind: type):
    asked = {f"{kind.__name__}.{f.name}" for f in fields(kind)}
    named = {name for name in (*INPUTS, *NO_INPUTS) if name.startswith(f"{kind.__name__}.")}
    assert asked - named == set(), "say in INPUTS and ROWS what rests on it, or in NO_INPUTS why nothing does"
    assert named - asked == set()
    assert not set(INPUTS) & set(NO_INPUTS)


def test_every_number_of_the_module_is_an_input():
    numbers = {n for n, v in vars(params).items() if n.isupper() and isinstance(v, (int, float, tuple, dict))}
    assert numbers - {"HELD", "MEASURES", "FORMATS", "TYPE_CHECKING"} == set(CONSTANTS)
