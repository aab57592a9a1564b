"""From needs to tasks and steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.claims.finding import Finding
from tuneshift.engine.plan import Planner, Task, reads_weights
from tuneshift.engine.settings import Settings
from tuneshift.engine.steps import plan_lines, steps
from tuneshift.errors import MeasureError, PairError
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt, PromptSet
from tuneshift.store.evidence import EvidenceItem
from tuneshift.store.store import Store

PROMPTS = PromptSet(
    name="set",
    source="set.jsonl",
    prompts=tuple(Prompt(id=i, prompt=f"Do {i}.", instruction_spans=((0, 4),), reference="yes") for i in "abc"),
)


class Offline(Planner):
    """A planner that knows fingerprints and templates without files."""

    def fingerprint(self, ref: ModelRef) -> str:
        return f"fingerprint of {ref.model}"

    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        return None

    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        return (0,)

    def thinking(self, pair: ModelPair) -> tuple[str, str] | None:
        return None

    def shape(self, ref: ModelRef) -> tuple[int, int]:
        return 3, 128


def ref(name: str, **more) -> ModelRef:
    return ModelRef(name=name, model=name, **more)


def pair(base: str = "B", tuned: str = "T") -> ModelPair:
    return ModelPair(name="p", base=ref(base), tuned=ref(tuned))


def planner(**settings) -> Offline:
    return Offline(settings=Settings(**settings))


def tasks(planner: Planner, pair: ModelPair, prompts: PromptSet = PROMPTS) -> list[Task]:
    needs = [(role, need) for role in ("base", "tuned") for need in ("attribution", "attribution.contrast")]
    return [planner.task(pair, role, need, prompts) for role, need in needs]


def named(steps_) -> list[tuple[str, list[str]]]:
    return [(s.ref.name, [f"{t.measure.name}:{t.params.get('response', '')}" for t in s.tasks]) for s in steps_]


def test_own_responses_are_generated_before_they_are_attributed_and_each_checkpoint_loads_once():
    assert named(steps(tasks(planner(), pair()))) == [
        ("B", ["generation:", "attribution:own", "attribution:reference"]),
        ("T", ["generation:", "attribution:own", "attribution:reference"]),
    ]


def test_without_references_the_contrast_is_the_tuned_response():
    bare = replace(PROMPTS, prompts=tuple(replace(p, reference=None) for p in PROMPTS.prompts))
    made = named(steps(tasks(planner(), pair(), bare)))
    assert made == [
        ("T", ["generation:", "attribution:own"]),
        ("B", ["generation:", "attribution:own", "attribution:tuned"]),
    ]


def test_the_tuned_models_own_response_is_the_shared_one_and_measured_once():
    made = tasks(planner(response="tuned"), pair())
    assert made[2].key.digest == made[3].key.digest  # tuned: deciding and contrast are the same evidence
    assert made[0].key.digest != made[1].key.digest


def test_a_pair_and_its_reverse_load_one_checkpoint_twice_and_no_more():
    plan = planner(response="tuned")
    both = [*tasks(plan, pair("B", "T")), *tasks(plan, pair("T", "B"))]
    loads = [s.ref.name for s in steps(both)]
    assert sorted(loads) in (["B", "B", "T"], ["B", "T", "T"])


def test_a_base_that_two_tuned_checkpoints_share_is_measured_once():
    plan = planner()
    made = steps([*tasks(plan, pair("B", "T1")), *tasks(plan, pair("B", "T2"))])
    assert [s.ref.name for s in made] == ["B", "T1", "T2"]


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 5},
        {"dtype": "bfloat16"},
        {"response": "reference"},
        {"attribute_tokens": 5},
        {"attribute_template": "yes"},
    ],
)
def test_what_changes_the_numbers_changes_the_key(change):
    before = planner().task(pair(), "base", "attribution", PROMPTS)
    after = planner(**change).task(pair(), "base", "attribution", PROMPTS)
    assert before.key.digest != after.key.digest


def test_the_longest_response_is_the_options_then_the_pairs_then_the_papers():
    def longest(planner: Planner, pair: ModelPair) -> int:
        return planner.task(pair, "base", "generation", PROMPTS).params["max_new_tokens"]

    short = replace(pair(), max_new_tokens=100)
    assert longest(planner(), pair()) == 300
    assert longest(planner(), short) == 100
    assert longest(planner(max_new_tokens=7), short) == 7


def test_attributed_tokens_are_the_options_then_the_pairs_then_all():
    some = replace(pair(), attribute_tokens=64)
    assert planner().attributed_tokens(pair()) is None
    assert planner().attributed_tokens(some) == 64
    assert planner(attribute_tokens=7).attributed_tokens(some) == 7
    # No response is longer, so these are all.
    assert planner(max_new_tokens=64).attributed_tokens(some) is None
    recorded = replace(some, base=ModelRef(name="B", evidence=Path("b.parquet")))
    assert planner(max_new_tokens=64).attributed_tokens(recorded) == 64


def test_spans_and_names_do_not_change_the_key_but_texts_do():
    def key(prompts: PromptSet, name: str = "B") -> str:
        return planner().task(pair(name), "base", "attribution", prompts).key.digest

    renamed = replace(PROMPTS, name="other", source="/elsewhere")
    respanned = replace(PROMPTS, prompts=tuple(replace(p, instruction_spans=((0, 2),)) for p in PROMPTS.prompts))
    retold = replace(PROMPTS, prompts=tuple(replace(p, prompt=p.prompt + "!") for p in PROMPTS.prompts))
    assert key(PROMPTS) == key(renamed) == key(respanned)
    assert key(PROMPTS) != key(retold)
    assert key(PROMPTS) != key(PROMPTS, name="C")


def test_recorded_evidence_needs_no_task(tmp_path):
    recorded = ModelPair(name="p", base=ModelRef(name="b", evidence=tmp_path), tuned=ref("T"))
    assert planner().task(recorded, "base", "attribution", PROMPTS) is None


def test_unknown_needs_and_roles_are_named():
    with pytest.raises(MeasureError, match="'attribusion'; known are generation, attribution"):
        planner().task(pair(), "base", "attribusion", PROMPTS)
    for need, known in (
        ("attribution.contrasts", "attribution, attribution.contrast, attribution.thoughts"),
        ("generation.rules+tag", r"generation, generation.local, generation.rules, generation.rules\+text"),
        ("likelihood.rules", "likelihood"),
    ):
        with pytest.raises(MeasureError, match=f"no variant .*; known are {known}$"):
            planner().task(pair(), "base", need, PROMPTS)
    with pytest.raises(PairError, match="names no response_tuned"):
        planner().task(pair(), "response_tuned", "attribution", PROMPTS)


@pytest.fixture
def words(tmp_path) -> ModelPair:
    """A pair with a vocabulary and a word space of its own."""
    np.savez(tmp_path / "words.npz", words=np.array(["sort", "list"]), vectors=np.eye(2, dtype=np.float32))
    file = str(tmp_path / "words.npz")
    return replace(pair(), vocabulary=file, word_vectors=file)


def test_a_need_of_weights_has_a_layer_for_each_item_and_no_prompts_in_its_key(words):
    made = planner().task(words, "base", "relations", None)
    assert made.ids == ("layer.0", "layer.1", "layer.2")
    assert made.key.prompts == ""
    assert made.sources == {"vocabulary": words.vocabulary, "word_vectors": words.word_vectors}
    assert planner().task(words, "base", "relations", PROMPTS).key == made.key


def test_annotations_rest_on_concepts_and_run_after_them(words):
    annotated = planner().task(words, "tuned", "annotation", None)
    assert [t.measure.name for step in steps([annotated]) for t in step.tasks] == ["concepts", "annotation"]
    assert annotated.depends_on.params["rotation_k"] == 32  # a quarter of the width


def test_the_words_file_counts_by_content_and_not_by_place(words, tmp_path):
    def key(file: Path) -> str:
        named = replace(words, vocabulary=str(file), word_vectors=str(file))
        return planner().task(named, "base", "relations", None).key.digest

    moved, other = tmp_path / "moved.npz", tmp_path / "other.npz"
    moved.write_bytes(Path(words.vocabulary).read_bytes())
    np.savez(other, words=np.array(["sort", "other"]), vectors=np.eye(2, dtype=np.float32))
    assert key(Path(words.vocabulary)) == key(moved) != key(other)


def test_options_on_words_come_before_the_pairs(words):
    plan = planner(vocabulary="7", word_vectors="minilm")
    assert (plan.words(words), plan.word_space(words)) == ("7", "minilm")
    assert (planner().words(pair()), planner().word_space(pair())) == ("10000", "minilm")


def test_a_finding_reads_weights_where_all_its_needs_do():
    def finding(*needs: tuple[str, str]) -> Finding:
        words = dict.fromkeys(("id", "title", "claim", "source", "unit", "sesoi_reason", "how"), "")
        return Finding(**words, direction="greater", sesoi=0.1, needs=needs)

    assert reads_weights(finding(("base", "relations"), ("tuned", "annotation")))
    assert not reads_weights(finding(("base", "relations"), ("tuned", "attribution.contrast")))


def test_responses_under_rules_are_evidence_of_their_own_for_each_set_of_rules():
    needs = ("", ".rules", ".rules-end", ".rules-diversity", ".rules+text")
    made = [planner().task(pair(), "base", f"generation{need}", PROMPTS) for need in needs]
    assert len({task.key.digest for task in made}) == 5
    assert [task.params.get("present") for task in made] == [None, "turn", "turn", "turn", "text"]
    assert "rules" not in made[0].params
    assert made[1].params["rules"]["end"] == {"score": 15.0, "steps": 250}
    assert made[2].params["rules"]["end"] is None
    assert made[2].params["rules"]["diversity"] == made[1].params["rules"]["diversity"]
    with pytest.raises(ValueError, match="no rule 'begin'"):
        planner().task(pair(), "base", "generation.rules-begin", PROMPTS)


def test_likelihoods_depend_on_clusters_since_others_are_drawn_outside_them():
    made = planner().task(pair(), "base", "likelihood", PROMPTS)
    assert made.sources["population"] == [[i, f"Do {i}.", "yes", None] for i in "abc"]
    clustered = replace(PROMPTS, prompts=tuple(replace(p, cluster="one") for p in PROMPTS.prompts))
    assert planner().task(pair(), "base", "likelihood", clustered).key.digest != made.key.digest


def test_plan_lines_say_what_the_store_holds(tmp_path):
    store = Store(tmp_path)
    made = tasks(planner(), pair())
    generation = made[0].depends_on
    with store.session(generation.key, generation.ids, {}, chunk_size=2) as session:
        number, ids = session.missing[0]
        session.write(number, [EvidenceItem(id=i) for i in ids])
    lines = plan_lines(made, store)
    assert [(line.progress.stored, line.progress.total) for line in lines] == [(2, 3)] + [(0, 3)] * 5


SERVER = LMBackend(name="local-completions", args="base_url=http://127.0.0.1:1/v1/completions,model=m,max_length=64")
HF = LMBackend(name="huggingface", args="batch_size=4")


def behavioural(pair: ModelPair, need: str, **settings) -> Task:
    return planner(**settings).task(pair, "base", need, PROMPTS)


@pytest.mark.parametrize("need", ["generation", "likelihood"])
def test_a_backend_is_part_of_the_key_by_what_can_change_a_number_and_only_where_one_is_used(need):
    ours, served = behavioural(pair(), need), behavioural(pair(), need, backend=SERVER)
    assert "backend" not in ours.params
    assert served.params == {**ours.params, "backend": {"name": "local-completions", "args": {"max_length": "64"}}}
    elsewhere = LMBackend(name=SERVER.name, args="max_length=64, base_url=http://host/v1/completions, timeout=9")
    assert behavioural(pair(), need, backend=elsewhere).key == served.key
    assert behavioural(pair(), need, backend=LMBackend(name=SERVER.name, args="max_length=32")).key != served.key
    hf = behavioural(pair(), need, backend=HF)
    assert hf.params["backend"] == {"name": "hf", "args": {}}
    assert [task.loads for task in (ours, served, hf)] == [True, False, True]
    assert served.key.checkpoint == ours.key.checkpoint == "fingerprint of B"


def test_a_checkpoints_own_backend_comes_before_the_runs_and_none_is_our_own_passes():
    own = ModelPair(name="p", base=ref("B", backend=HF), tuned=ref("T"))
    assert behavioural(own, "generation", backend=SERVER).backend is HF
    without = ModelPair(name="p", base=ref("B", backend=LMBackend(name="none")), tuned=ref("T"))
    assert behavioural(without, "generation", backend=SERVER) == behavioural(without, "generation")
    assert behavioural(without, "generation", backend=SERVER).backend is None


def test_what_no_backend_gives_is_measured_as_without_one():
    for need in ("generation.local", "generation.rules", "generation.rules-end", "attribution", "attribution.contrast"):
        assert behavioural(pair(), need, backend=SERVER).key == behavioural(pair(), need).key
        assert behavioural(pair(), need, backend=SERVER).loads
    assert behavioural(pair(), "attribution", backend=SERVER).depends_on.backend is None
    assert behavioural(pair(), "generation.local").key == behavioural(pair(), "generation").key


def test_both_checkpoints_are_asked_in_the_tuned_ones_format_unless_one_names_its_own(make_checkpoint):
    base, tuned = make_checkpoint("base", template="base's"), make_checkpoint("tuned", template="tuned's")
    here = ModelPair(name="p", base=ref(str(base)), tuned=ref(str(tuned)))
    made = Planner(settings=Settings())
    assert [made.template(here, side) for side in (here.base, here.tuned)] == ["tuned's", "tuned's"]
    named = replace(here, base=replace(here.base, chat_template=str(base / "chat_template.jinja")))
    assert [made.template(named, side) for side in (named.base, named.tuned)] == ["base's", "tuned's"]
