"""The second measurement: other keys, what it says in words, and that a claim below the floor is not made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuneshift.backends.spec import parse_backend
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.claim import Claim
from tuneshift.claims.finding import Finding
from tuneshift.claims.view import Items, NotApplicable, View
from tuneshift.engine.plan import Planner
from tuneshift.engine.second import can_be_measured_again, second_dtype, second_pair, second_settings
from tuneshift.engine.settings import Settings
from tuneshift.errors import MeasureError
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt, PromptSet
from tuneshift.prompts.thinking import Tags
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm
from tuneshift.store.evidence import EvidenceItem

FINDING = Finding(
    id="a.b", title="t", claim="c", source="s", direction="greater", unit="u", sesoi=0.05, sesoi_reason="r", how="h",
    needs=(("base", "generation"), ("tuned", "generation")),
)  # fmt: skip
PAIR = ModelPair(name="p", base=ModelRef(name="B", model="B"), tuned=ModelRef(name="T", model="T"))
PROMPTS = PromptSet(
    name="set",
    source="set.jsonl",
    prompts=tuple(
        Prompt(id=f"p{i}", prompt=f"Do {i}.", instruction_spans=((0, 4),), reference="yes") for i in range(40)
    ),
)


class Offline(Planner):
    """A planner that knows fingerprints, templates, ends and tags of thoughts without files."""

    def fingerprint(self, ref: ModelRef) -> str:
        return f"fingerprint of {ref.model}"

    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        return None

    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        return (0,)

    def thinking(self, pair: ModelPair) -> Tags | None:
        return None


def scores(effect: float, missing: bool = False) -> Items:
    """Base scores around 0 and tuned ones around ``effect``, with a spread of 0.01."""
    rng = np.random.default_rng(0)

    def items(role: str, need: str) -> dict[str, EvidenceItem]:
        if missing:
            raise NotApplicable("no prompt has a rating")
        mean = effect if role == "tuned" else 0.0
        return {p.id: EvidenceItem(id=p.id, values={"x": mean + rng.normal(scale=0.01)}) for p in PROMPTS.prompts}

    return items


def difference(view: View):
    arms = []
    for role in ("base", "tuned"):
        found = view.items(role, "generation")
        assert found is not None
        values = np.array([item.values["x"] for item in found.values()])
        arms.append(Arm(label=role, ids=tuple(found), values=values))
    return paired_difference(arms[0], arms[1], clusters=None, level=view.level)


def decided(effect: float, second: Items | None, finding: Finding = FINDING):
    made: list = []
    Claim(
        finding=finding, pair=PAIR, prompts=PROMPTS.prompts, prompt_set="set", group="all", alpha=0.05,
        items=scores(effect), second=None if second is None else (second, "bfloat16 instead of float32"),
        expected=None, responses=("own", "other"), conclude=made.append,
    ).decide(difference)  # fmt: skip
    return made[0]


@pytest.mark.numerics
def test_an_effect_no_larger_than_the_floor_is_not_claimed():
    assert decided(0.07, None)["verdict"] == "reproduced"
    claim = decided(0.07, scores(0.20))
    assert claim["verdict"] == "inconclusive"
    assert "no larger than the noise floor 0.1" in claim["reason"]
    assert "bfloat16 instead of float32" in claim["reason"]
    noise = claim["noise_floor"]
    assert noise["floor"] == pytest.approx(abs(noise["effect"] - claim["effect"]))
    assert noise["effect"] == pytest.approx(0.20, abs=0.01)  # as planted, but for the draws


def test_an_effect_above_the_floor_stands():
    assert decided(0.30, scores(0.25))["verdict"] == "reproduced"


def test_a_second_measurement_without_an_effect_is_an_error_and_never_passes_a_claim():
    with pytest.raises(MeasureError, match=r"noise floor cannot be taken.*no prompt has a rating"):
        decided(0.30, scores(0.0, missing=True))


def test_the_option_is_in_no_key_of_the_first_measurement():
    task = Offline(settings=Settings(attribute_template="yes")).task(PAIR, "base", "attribution", PROMPTS)
    assert task is not None
    assert "batch" not in task.params
    assert task.depends_on is not None
    assert "batch" not in task.depends_on.params
    # Stores hold evidence under it: what changes it needs a migration (engine/rekey.py).
    assert task.key.digest == "d5a1847b485ff9b088fcdc8f31a52f2a20521cf41392d7adb997b369b218a17c"


@pytest.mark.parametrize("need", ["generation", "generation.rules", "likelihood", "attribution"])
def test_the_second_measurement_has_keys_of_its_own_and_rests_on_its_own(need):
    first, second = Offline(settings=Settings()), Offline(settings=Settings(), batch_share=0.5)
    a = first.task(PAIR, "base", need, PROMPTS)
    b = second.task(second_pair(PAIR, "float32"), "base", need, PROMPTS)
    assert a is not None
    assert b is not None
    assert (a.key.dtype, b.key.dtype) == ("float32", "bfloat16")
    own = {} if b.depends_on is None else {"author": b.depends_on.key.digest, "derivative_dtype": "bfloat16"}
    assert b.params == {**a.params, **own, "batch": 0.5}
    if b.depends_on is not None:
        assert a.params["author"] != b.params["author"]
        assert b.depends_on.key.dtype == "bfloat16"
        assert b.depends_on.params["batch"] == 0.5


@pytest.mark.parametrize(
    ("backend", "halved"),
    [("hf", True), ("hf:batch_size=4", True), ("hf:batch_size=auto", False), ("vllm:batch_size=4", False)],
)
def test_a_backends_batches_are_in_the_key_where_they_are_ours(backend, halved):
    second = Offline(settings=Settings(backend=parse_backend(backend)), batch_share=0.5)
    for need in ("generation", "likelihood"):
        task = second.task(second_pair(PAIR, "float32"), "base", need, PROMPTS)
        assert task is not None
        assert ("batch" in task.params) is halved
    assert second.task(PAIR, "base", "generation.rules", PROMPTS).params["batch"] == 0.5


@pytest.mark.parametrize(
    ("dtype", "other"),
    [("float32", "bfloat16"), ("float64", "float32"), ("bfloat16", "float32"), ("float16", "float32")],
)
def test_the_other_precision(dtype, other):
    assert second_dtype(dtype) == other
    assert second_pair(PAIR, dtype).tuned.dtype == other


def test_a_checkpoints_own_dtype_counts_and_recorded_evidence_is_left_alone():
    recorded = ModelRef(name="R", evidence=Path("r.parquet"))
    pair = replace(PAIR, base=recorded, tuned=replace(PAIR.tuned, dtype="float16"))
    again = second_pair(pair, "float32")
    assert again.base == recorded
    assert again.tuned.dtype == "float32"
    assert not can_be_measured_again(FINDING, pair)
    assert can_be_measured_again(FINDING, PAIR)


def test_what_is_other_is_said_in_words():
    assert second_settings(FINDING, PAIR, "float32", batches=True) == (
        "bfloat16 instead of float32, batches of half the size"
    )
    mixed = replace(PAIR, tuned=replace(PAIR.tuned, dtype="bfloat16"))
    assert second_settings(FINDING, mixed, "float32", batches=False) == (
        "base in bfloat16 instead of float32, tuned in float32 instead of bfloat16"
    )
