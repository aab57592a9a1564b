"""What the evidence key of each measure holds: the keys that stores of today are filled under."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.engine.plan import Planner
from tuneshift.engine.settings import Settings
from tuneshift.measures.catalogue import MEASURES
from tuneshift.measures.params import HELD
from tuneshift.pairs import ModelPair
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
    ("generation", (), None): "84ce9391b3cbda14",
    ("generation", (("max_new_tokens", 7),), None): "0e04dadd1247e9fa",
    ("generation", (("backend", SERVER),), None): "232dd7479604983a",
    ("generation.local", (("backend", SERVER),), None): "84ce9391b3cbda14",
    ("generation.rules", (), None): "af2a5a8654feb388",
    ("generation.rules-end", (), None): "38f929747bf33dc7",
    ("generation.rules+text", (), None): "f903725188f5c8a1",
    ("likelihood", (), None): "7cda844f65d6a21c",
    ("likelihood", (("backend", SERVER),), None): "af9d23fe7312185d",
    ("attribution", (), None): "85dc06ac055faac0",
    ("attribution", (("response", "reference"),), None): "5e3c43625859adac",
    ("attribution", (("response", "tuned"),), None): "5dcf3153169fb8fa",
    ("attribution.contrast", (), None): "5e3c43625859adac",
    ("attribution.contrast", (("response", "tuned"),), None): "85dc06ac055faac0",
    ("relations", (), None): "5ff654dee449bda8",
    ("relations", (("dtype", "bfloat16"),), None): "a2fd53cdeed582da",
    ("concepts", (), None): "d41346cc2012d21f",
    ("generation", (), 0.5): "ad7f63fdbbc0ef54",
    ("likelihood", (), 0.5): "085c5c999a876b92",
    ("attribution", (), 0.5): "0b63d61d50dc0d32",
    ("relations", (), 0.5): "5ff654dee449bda8",
    ("concepts", (), 0.5): "d41346cc2012d21f",
}
"""(need, settings, share of the usual batch) -> first digits of the digest, worked out before the parameters had a
module of their own. A digest that changes leaves every store of today behind: say so in CHANGELOG."""


@pytest.mark.parametrize(("need", "more", "share"), KEYS, ids=str)
def test_keys_are_those_that_stores_are_filled_under(need, more, share, settings):
    planner = Offline(settings=Settings(**settings, **dict(more)), batch_share=share)
    assert planner.task(PAIR, "base", need, PROMPTS).key.digest[:16] == KEYS[need, more, share]


def test_every_measure_says_what_its_key_holds_and_has_a_pinned_key():
    assert set(HELD) == set(MEASURES) == {need.partition(".")[0] for need, _, _ in KEYS}
