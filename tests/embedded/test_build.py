"""The whole pipeline on a thousandth of the recipe: complete, resumable, deterministic; its check notices damage."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tuneshift.checkpoints.fingerprint import fingerprint
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.cli import main
from tuneshift.embedded.build import build
from tuneshift.embedded.card import SEEDS
from tuneshift.embedded.check import check, compare, damaged_files
from tuneshift.embedded.corpus import documents
from tuneshift.embedded.recipe import FAMILY, PROMPTS, Member, Recipe, load_recipe, load_workbook
from tuneshift.embedded.siblings import exercise_lines, tuning_exercises
from tuneshift.embedded.vectors import WORDS, words_npz
from tuneshift.errors import UsageError
from tuneshift.resources import fixture

pytest.importorskip("trl", reason="the extra `tune` is not installed")

SIBLINGS = ("instruct", "response-only", "single-task")
MEMBERS = ("base", *SIBLINGS)


def small_recipe() -> Recipe:
    full = load_recipe()
    return replace(
        full,
        tokenizer={"vocabulary": 600, "documents": 400},
        model={**full.model, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32},
        corpus={**full.corpus, "trunk_tokens": 12_000, "branch_tokens": 6_000},
        pretraining={**full.pretraining, "window": 64, "rows": 8},
        tuning={**full.tuning, "epochs": 1, "batch": 8, "micro_batch": 4},
        evaluation={**full.evaluation, "prompts_per_task": 1, "limit": 4},
        members=(full.member("base"), *(small_sibling(full.member(name)) for name in SIBLINGS)),
    )


def small_sibling(member: Member) -> Member:
    return replace(member, options={**member.options, "examples": 32})


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("family") / "micro", 3, recipe=small_recipe(), workers=1)


def test_every_member_loads_offline_with_one_tokenizer(family: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocabularies = []
    for name in MEMBERS:
        model = AutoModelForCausalLM.from_pretrained(family / name)
        tokenizer = AutoTokenizer.from_pretrained(family / name)
        assert str(model.dtype) == "torch.bfloat16"
        assert model.config.vocab_size == len(tokenizer) == 600
        vocabularies.append((tokenizer.get_vocab(), tokenizer.chat_template))
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies[1:])


def test_cards_hold_numbers_hash_and_command(family: Path) -> None:
    record = json.loads((family / "family.json").read_text())
    for name in MEMBERS:
        text = (family / name / "README.md").read_text()
        mean = record["members"][name]["measured"]["shares"]["correct"]["mean"]
        assert f"| correct and ended | {mean:.3f} |" in text
        assert "tuneshift embedded build --out DIR" in text
        assert "Seed 3" in text
    for part in record["members"]["base"]["training"].values():
        assert part["corpus_sha256"] in (family / "base" / "README.md").read_text()
    training = record["members"]["response-only"]["training"]
    text = (family / "response-only" / "README.md").read_text()
    assert "Tuned from micro/base by `tuneshift tune --how response` on 32 exercises of all task types" in text
    assert training["plan"]["data"] in text
    assert "1 epochs (4 steps of 8), AdamW at rate 0.0001" in text
    assert f"Loss {training['final_loss']:.3f} at the last." in text


def test_nothing_tells_where_a_family_was_built(family: Path) -> None:
    texts = [path for path in family.glob("*/*") if path.suffix in (".json", ".md", ".jinja")]
    assert len(texts) >= len(MEMBERS) * 5
    assert not [path for path in texts if str(family) in path.read_text()]
    assert {load(family, name)["base"] for name in SIBLINGS} == {"base"}


def load(family: Path, name: str) -> dict[str, Any]:
    training: dict[str, Any] = json.loads((family / name / "training.json").read_text())
    return training


@pytest.mark.parametrize("name", SIBLINGS)
def test_siblings_are_what_the_commands_make_of_the_base(family: Path, tmp_path: Path, name: str) -> None:
    numbers = small_recipe().tuning_of(small_recipe().member(name))
    data, out = tmp_path / "data.jsonl", tmp_path / "tuned"
    task = ["--task", "describe"] if name == "single-task" else []
    assert main(["embedded", "exercises", "--out", str(data), "--count", "32", "--seed", "3", *task]) == 0
    how = {"instruct": "instruction", "response-only": "response", "single-task": "single-task"}[name]
    options = [
        f"--how={how}",
        f"--data={data}",
        f"--out={out}",
        "--seed=3",
        "--device=cpu",
        f"--rate={numbers['rate']}",
    ]
    options += ["--epochs=1", "--batch=8", "--micro-batch=4", "--dtype=bfloat16"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(["tune", str(family / "base"), *options]) == 0
    finally:
        torch.set_num_threads(threads)
    assert weights(out, ".") == weights(family, name) != weights(family, "base")
    assert json.loads((out / "tuning.json").read_text())["plan"] == load(family, name)["plan"]


def weights(family: Path, name: str) -> bytes:
    return (family / name / "model.safetensors").read_bytes()


def test_the_shipped_siblings_were_tuned_on_the_shipped_recipe_and_base() -> None:
    recipe, folder = load_recipe(), fixture(FAMILY)
    assert {member.name for member in recipe.members if member.parent} == set(SIBLINGS)
    for name in SIBLINGS:
        member, plan = recipe.member(name), load(folder, name)["plan"]
        numbers = recipe.tuning_of(member)
        tasks = member.options.get("tasks", ())
        exercises = tuning_exercises(load_workbook(0), numbers["examples"], seed=0, tasks=tasks)
        text = "".join(line + "\n" for line in exercise_lines(exercises))
        assert plan["data"] == hashlib.sha256(text.encode()).hexdigest()
        assert plan["base"] == fingerprint(ModelRef(name="base", model=str(folder / str(member.parent))))
        assert plan["how"] == member.options["how"]
        assert {key: plan[key] for key in numbers if key != "examples"} == {
            key: value for key, value in numbers.items() if key != "examples"
        }


KILLED = """
import pickle, sys, time
from pathlib import Path
import tuneshift.tuning.trainer as trainer
from tuneshift.embedded.build import build

class Scripted(trainer.Checkpoints):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            Path(sys.argv[1]).touch()
            time.sleep(600)
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step == 2

trainer.Checkpoints = Scripted
build(Path(sys.argv[2]), 3, recipe=pickle.loads(Path(sys.argv[3]).read_bytes()), workers=0)
"""


@pytest.mark.nightly
def test_a_build_killed_while_it_tunes_goes_on_from_the_last_checkpoint(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneshift.tuning import trainer as tuning_trainer

    copy, ready, recipe = tmp_path / "copy", tmp_path / "ready", tmp_path / "recipe"
    kept = shutil.ignore_patterns(*SIBLINGS, "tuned", "measured", "family.json")
    shutil.copytree(family, copy, ignore=kept)
    recipe.write_bytes(pickle.dumps(small_recipe()))
    command = [sys.executable, "-c", KILLED, str(ready), str(copy), str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        while not ready.exists() and child.poll() is None:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.05)
        assert child.poll() is None, child.stdout and child.stdout.read()
        child.send_signal(signal.SIGKILL)
    assert not (copy / "instruct").exists()
    passes: list[int] = []
    step = tuning_trainer.Trainer.training_step
    monkeypatch.setattr(
        tuning_trainer.Trainer, "training_step", lambda *args, **kwargs: passes.append(1) or step(*args, **kwargs)
    )
    build(copy, 3, recipe=small_recipe(), workers=0)
    assert len(passes) == 2 * (2 + 4 + 4)  # micro-batches; the first two steps of instruct are not computed again
    for name in MEMBERS:
        assert weights(copy, name) == weights(family, name)
    assert (copy / "family.json").read_text() == (family / "family.json").read_text()


def test_packages_that_tuning_needs_are_asked_for_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else known(name))
    lines: list[str] = []
    with pytest.raises(UsageError, match="needs the package trl"):
        build(tmp_path / "out", 3, recipe=small_recipe(), workers=0, tell=lines.append)
    assert lines == []


def test_cards_of_another_recipe_show_their_own_seed_alone(family: Path) -> None:
    assert "| share of prompts | seed 3 |" in (family / "base" / "README.md").read_text()


def test_the_shipped_cards_show_all_seeds_and_the_shipped_numbers_are_seed_0s() -> None:
    seeds = json.loads(fixture(SEEDS).read_text())
    assert list(seeds) == ["0", "1", "2"]
    shipped = json.loads((fixture(FAMILY) / "family.json").read_text())
    for name, row in shipped["members"].items():
        text = (fixture(FAMILY) / name / "README.md").read_text()
        assert row["measured"]["shares"]["correct"]["mean"] == seeds["0"][name]["correct"]
        columns = " | ".join(f"{seeds[seed][name]['correct']:.3f}" for seed in seeds)
        assert f"| correct and ended | {columns} |" in text


def test_seeds_are_gathered_from_builds(family: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "seeds.json"
    assert main(["embedded", "seeds", str(family), "--out", str(out)]) == 0
    record = json.loads((family / "family.json").read_text())
    gathered = json.loads(out.read_text())
    assert gathered["3"]["instruct"]["begins"] == record["members"]["instruct"]["measured"]["shares"]["begins"]["mean"]
    assert main(["embedded", "seeds", str(tmp_path), "--out", str(out)]) == 4
    assert "holds no family.json" in capsys.readouterr().err


def test_a_second_build_trains_nothing_again_and_finishes_what_is_missing(family: Path) -> None:
    times = [(family / name / "model.safetensors").stat().st_mtime_ns for name in MEMBERS]
    cards = (family / "family.json").read_text()
    shutil.rmtree(family / ".build" / "measured" / "instruct")
    (family / WORDS).unlink()
    build(family, 3, recipe=small_recipe(), workers=0)
    assert times == [(family / name / "model.safetensors").stat().st_mtime_ns for name in MEMBERS]
    assert (family / "family.json").read_text() == cards


@pytest.mark.nightly
def test_the_same_seed_gives_the_same_weights(family: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", 3, recipe=small_recipe(), workers=0)
    for name in MEMBERS:
        assert weights(family, name) == weights(again, name)
    assert (family / WORDS).read_bytes() == (again / WORDS).read_bytes()


def test_word_vectors_are_of_the_trunks_text_and_under_the_checksums(family: Path) -> None:
    record = json.loads((family / "family.json").read_text())
    trunk = documents(load_workbook(3), small_recipe().corpus["mix"], seed="3-trunk", transcripts=0.0)
    made = words_npz(trunk, words=3_000)
    assert (family / WORDS).read_bytes() == made
    assert record["files"] == {WORDS: hashlib.sha256(made).hexdigest()}


def test_the_shipped_family_is_what_its_checksums_say() -> None:
    folder = fixture(FAMILY)
    record = json.loads((folder / "family.json").read_text())
    assert set(record["files"]) == {WORDS}
    assert damaged_files(folder, fixture(f"prompts/{PROMPTS}"), record) == ()


def test_a_family_from_before_there_were_word_vectors_is_checked_without(family: Path) -> None:
    record = json.loads((family / "family.json").read_text())
    del record["files"]
    assert damaged_files(family, family / PROMPTS, record) == ()


def test_a_foreign_folder_is_refused(family: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another seed or recipe"):
        build(family, 4, recipe=small_recipe(), workers=0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no build"):
        build(tmp_path, 3, recipe=small_recipe(), workers=0)


@pytest.mark.numerics
def test_check_passes_and_tells_every_number(family: Path) -> None:
    lines: list[str] = []
    result = check(family, tell=lines.append)
    assert result.passed
    assert len(lines) == len(result.numbers) == 5 * len(MEMBERS)
    assert all(
        number.measured == pytest.approx(number.card, abs=1e-4)  # the card is rounded to four places
        for number in result.numbers
    )


def test_check_names_a_damaged_file(family: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(family, copy)
    weights = copy / "instruct" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    (copy / PROMPTS).unlink()
    (copy / "base" / "tokenizer.json").unlink()
    words = copy / WORDS
    words.write_bytes(words.read_bytes()[:-1] + b"\0\0")
    result = check(copy, copy / PROMPTS)
    assert not result.passed
    assert set(result.damaged) == {
        str(weights),
        str(copy / PROMPTS),
        str(words),
        str(copy / "base" / "tokenizer.json"),
    }
    assert result.numbers == ()


def test_a_number_outside_its_interval_fails() -> None:
    card = {"shares": {"correct": {"mean": 0.5, "low": 0.4, "high": 0.6}}}
    inside, outside = (compare("base", card, {"shares": {"correct": {"mean": mean}}})[0].holds for mean in (0.41, 0.39))
    assert inside
    assert not outside


def test_check_refuses_what_is_no_family(tmp_path: Path, family: Path) -> None:
    with pytest.raises(UsageError, match=r"no family\.json"):
        check(tmp_path)
    with pytest.raises(UsageError, match=r"no member chat.*it has base, instruct, response-only, single-task"):
        check(family, members=["chat"])


def test_a_recipe_lists_its_members() -> None:
    assert isinstance(load_recipe().member("base"), Member)
    with pytest.raises(UsageError, match="its members are base, base-far, instruct, response-only, single-task"):
        load_recipe().member("chat")
