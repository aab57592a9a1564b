"""Evidence of older keys: kept where measuring again is proved to give the same, left where not, with the reason."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tuneshift.checkpoint_specs import checkpoint_ref
from tuneshift.claims.decisions import exposure
from tuneshift.cli import main
from tuneshift.engine.engine import Engine
from tuneshift.engine.plan import Planner
from tuneshift.engine.rekey import older_key, outdated, rekey
from tuneshift.engine.settings import Settings
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt, PromptSet
from tuneshift.session.console import header_lines
from tuneshift.store.store import Store

SETTINGS = Settings(device="cpu", max_new_tokens=8, attribute_template="yes")
"""With the template's tokens, as version 1 took them."""
PROMPTS = PromptSet(
    name="set",
    source="set.jsonl",
    prompts=tuple(Prompt(id=i, prompt=f"Do {i}.", instruction_spans=((0, 4),), reference=f"r{i}") for i in "abcde"),
)
TEMPLATE = "{% for m in messages %}<u>{{ m.content }}<end>{% endfor %}"
NEEDS = ("generation", "likelihood", "attribution")
AGAIN = "measured again"


@pytest.fixture
def pair(make_checkpoint):
    def make(template=TEMPLATE, **more):
        refs = [checkpoint_ref(str(make_checkpoint(n, seed=s, template=template)), n) for n, s in (("b", 1), ("t", 2))]
        return ModelPair(name="p", base=refs[0], tuned=refs[1], **more)

    return make


def older_store(root, pair, settings=SETTINGS):
    """A store that holds the pair's evidence of today under its older keys alone, as version 1 left it."""
    planner, store, old = Planner(settings=settings), Store(root / "now"), Store(root / "old")
    tasks = [planner.task(pair, role, need, PROMPTS) for role in ("base", "tuned") for need in NEEDS]
    engine = Engine(store=store, settings=settings)
    for task in tasks:
        evidence = engine.evidence(task)
        with old.session(older_key(task), task.ids, {"device": "cpu"}, chunk_size=2) as session:
            at = {item.id: item for item in evidence.items}
            for number, ids in session.missing:
                session.write(number, [at[i] for i in ids])
    return old, tasks, engine


def results(store, pair, settings=SETTINGS):
    return {(r.stored.measure, r.stored.key.checkpoint[:6]): r for r in rekey(store, [(pair, [PROMPTS])], settings)}


def test_what_is_proved_the_same_is_kept_and_read_without_a_checkpoint(pair, tmp_path, monkeypatch):
    asked = pair()
    old, tasks, engine = older_store(tmp_path, asked)
    assert not any(old.status(t.key, t.ids).stored for t in tasks)
    found = results(old, asked)
    assert len(found) == len(tasks)
    assert {r.reason for r in found.values()} == {""}
    for task in tasks:
        kept = old.read(task.key)
        for mine, theirs in zip(engine.evidence(task).items, kept.items, strict=True):
            assert mine.values == theirs.values
            assert all(np.array_equal(mine.arrays[n], theirs.arrays[n]) for n in mine.arrays)
        assert kept.provenance["rekeyed_from"] == older_key(task).digest
        assert kept.provenance["device"] == "cpu"
    # The older sets stay, and a second time changes nothing.
    assert sum(map(outdated, old.list())) == len(tasks)
    assert {r.kept.digest for r in results(old, asked).values()} == {t.key.digest for t in tasks}


def test_what_is_kept_serves_a_request_of_fewer_tokens(pair, tmp_path, monkeypatch):
    asked = pair()
    old, _, engine = older_store(tmp_path, asked)
    results(old, replace(asked, attribute_tokens=5), replace(SETTINGS, attribute_template="no"))
    monkeypatch.setattr("tuneshift.checkpoints.loading.load", lambda *_, **__: pytest.fail("loads"))
    fewer = replace(SETTINGS, attribute_template="no", attribute_tokens=5)
    task = Planner(settings=fewer).task(asked, "tuned", "attribution", PROMPTS)
    whole = engine.evidence(Planner(settings=SETTINGS).task(asked, "tuned", "attribution", PROMPTS))
    found = Engine(store=old, settings=fewer).evidence(task)
    assert [i.arrays["importance"].shape[1] for i in whole.items] == [8] * len(whole.items)
    for mine, theirs in zip(found.items, whole.items, strict=True):
        assert np.array_equal(mine.arrays["importance"], theirs.arrays["importance"][:, [0, 2, 4, 5, 7]])


def test_version_1_held_the_author_of_another_checkpoints_response_alone(pair):
    asked = pair()
    own = Planner(settings=SETTINGS).task(asked, "base", "attribution", PROMPTS)
    assert "author" not in older_key(own).params
    shared = Planner(settings=replace(SETTINGS, response="tuned")).task(asked, "base", "attribution", PROMPTS)
    assert older_key(shared).params["author"] == older_key(shared.depends_on).digest


def test_a_template_that_names_the_date_and_variables_prove_nothing(pair, tmp_path):
    for i, (asked, why) in enumerate(
        (
            (pair(TEMPLATE + "{{ strftime_now('%Y') if false }}"), "names the date"),
            (pair(chat_template_kwargs={"enable_thinking": False}), "without the pair's chat_template_kwargs"),
        )
    ):
        old, _, _ = older_store(tmp_path / str(i), asked)
        found = results(old, asked).values()
        assert all(r.kept is None and why in r.reason for r in found)
        assert found


def test_a_response_that_runs_on_past_an_end_of_now_is_measured_again_and_so_is_what_rests_on_it(pair, tmp_path):
    asked = pair(TEMPLATE.replace("<end>", "</u>"))  # ends a turn with a token that neither checkpoint's own ends has
    old, tasks, _ = older_store(tmp_path, asked)
    assert set(tasks[0].params["ends"]) == {0, 2}
    assert all(r.kept for r in results(old, asked).values())  # no response holds it
    shutil.rmtree(tmp_path / "old")
    generation = next(t for t in tasks if t.measure.name == "generation" and t.ref == asked.base)
    with old.session(older_key(generation), generation.ids, {}, chunk_size=5) as session:
        ran = [replace(item, arrays={"response_ids": np.array([7, 2, 9])}) for item in Store(tmp_path / "now").read(
            generation.key).items]  # fmt: skip
        session.write(0, ran)
    attribution = next(t for t in tasks if t.measure.name == "attribution" and t.ref == asked.base)
    with old.session(older_key(attribution), attribution.ids, {}, chunk_size=5) as session:
        session.write(0, Store(tmp_path / "now").read(attribution.key).items)
    reasons = {r.reason for r in results(old, asked).values()}
    assert reasons == {"5 of its responses run on past a token that ends a response now"}


def test_what_is_not_whole_or_damaged_is_measured_again_and_the_rest_is_kept(pair, tmp_path):
    asked = pair()
    old, _, _ = older_store(tmp_path, asked)
    first, second = sorted((tmp_path / "old" / "likelihood").glob("*"))
    (first / "chunk-00001.json").unlink()
    (second / "chunk-00001.safetensors").write_bytes(b"x")
    found = results(old, asked)
    reasons = sorted(r.reason for (measure, _), r in found.items() if measure == "likelihood")
    assert "is damaged" in reasons[0]
    assert reasons[1] == "it is not whole"
    assert all(r.kept for (measure, _), r in found.items() if measure != "likelihood")


def test_an_attribution_without_the_responses_that_it_rests_on_is_measured_again(pair, tmp_path):
    asked = pair()
    old, _, _ = older_store(tmp_path, asked)
    shutil.rmtree(tmp_path / "old" / "generation")
    found = results(old, asked)
    why = {measure: r.reason for (measure, _), r in found.items()}
    assert why["attribution"] == "the responses that it rests on are not whole in the store"
    assert why["likelihood"] == ""


def test_responses_that_hold_thoughts_are_measured_again(pair, tmp_path):
    asked = pair()
    old, _, _ = older_store(tmp_path, asked)
    thinks = replace(asked, thinking=("<end>", "</u>"))  # which the template opens
    reasons = {r.reason for (measure, _), r in results(old, thinks).items() if measure != "likelihood"}
    assert reasons == {"its responses hold thoughts, which are kept apart now"}


def test_the_command_lists_older_keys_and_says_what_becomes_of_each(pair, tmp_path, capsys, monkeypatch):
    asked = pair()
    prompts = tmp_path / "set.jsonl"
    rows = [{"id": p.id, "prompt": p.prompt, "instruction_spans": [[0, 4]], "reference": p.reference}
            for p in PROMPTS.prompts]  # fmt: skip
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    older_store(tmp_path, asked)
    given = [f"--base={asked.base.model}", f"--tuned={asked.tuned.model}", f"--prompts={prompts}"]
    assert main(["evidence", "ls", "--store", str(tmp_path / "old")]) == 0
    listed = capsys.readouterr().out
    assert listed.count("older key (version 1)") == 6
    assert "6 have an older key and are not read: `tuneshift evidence rekey`" in listed
    assert main(["evidence", "rekey", "--store", str(tmp_path / "old"), *given]) == 0
    assert "6 of 6 sets of older keys are kept" in capsys.readouterr().out
    other = [f"--base={asked.base.model}", f"--tuned={asked.base.model}x", f"--prompts={prompts}"]
    shutil.copytree(asked.tuned.model, f"{asked.base.model}x")
    (tmp_path / "none.jsonl").write_text(json.dumps(rows[0]) + "\n")
    other[2] = f"--prompts={tmp_path / 'none.jsonl'}"
    assert main(["evidence", "rekey", "--store", str(tmp_path / "old"), *other]) == 0
    assert capsys.readouterr().out.count("it is of no checkpoint, prompts and settings of the pairs named") == 6


def test_a_run_says_in_one_line_what_to_do_about_older_keys(pair, tmp_path):
    old, _, _ = older_store(tmp_path, pair())
    gating = SimpleNamespace(storage=tmp_path)
    options = SimpleNamespace(store=tmp_path, gating=gating, alpha=0.05)
    run = {"pairs": (), "options": options, "settings": SETTINGS, "catalogue_claims": (),
           "exposure": lambda wanted: exposure(wanted, 0.05)}  # fmt: skip
    stores = old, Store(tmp_path / "now")
    said = [header_lines(SimpleNamespace(**run, store=store)) for store in stores]
    told = [[line for line in lines if "older key" in line] for lines in said]
    assert told[0] == [
        "tuneshift: 6 sets in the store have an older key and are not read; `tuneshift evidence rekey` keeps what is "
        "proved unchanged"
    ]
    assert told[1] == []
