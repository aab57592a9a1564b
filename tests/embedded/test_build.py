"""The whole pipeline on a thousandth of the recipe: complete, resumable, deterministic; its check notices damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tuneshift.cli import main
from tuneshift.embedded.build import build
from tuneshift.embedded.card import SEEDS
from tuneshift.embedded.check import check, compare, damaged_files
from tuneshift.embedded.corpus import documents
from tuneshift.embedded.recipe import FAMILY, PROMPTS, Member, Recipe, load_recipe, load_workbook
from tuneshift.embedded.vectors import WORDS, words_npz
from tuneshift.errors import UsageError
from tuneshift.resources import fixture


def small_recipe() -> Recipe:
    full = load_recipe()
    return replace(
        full,
        tokenizer={"vocabulary": 600, "documents": 400},
        model={**full.model, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32},
        corpus={**full.corpus, "trunk_tokens": 12_000, "branch_tokens": 6_000},
        pretraining={**full.pretraining, "window": 64, "rows": 8},
        tuning={**full.tuning, "examples": 32, "epochs": 1},
        evaluation={**full.evaluation, "prompts_per_task": 1, "limit": 4},
        members=(full.member("base"), full.member("instruct")),
    )


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("family") / "micro", 3, recipe=small_recipe(), workers=1)


def test_every_member_loads_offline_with_one_tokenizer(family: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocabularies = []
    for name in ("base", "instruct"):
        model = AutoModelForCausalLM.from_pretrained(family / name)
        tokenizer = AutoTokenizer.from_pretrained(family / name)
        assert str(model.dtype) == "torch.bfloat16"
        assert model.config.vocab_size == len(tokenizer) == 600
        vocabularies.append((tokenizer.get_vocab(), tokenizer.chat_template))
    assert vocabularies[0] == vocabularies[1]


def test_cards_hold_numbers_hash_and_command(family: Path) -> None:
    record = json.loads((family / "family.json").read_text())
    for name in ("base", "instruct"):
        text = (family / name / "README.md").read_text()
        mean = record["members"][name]["measured"]["shares"]["correct"]["mean"]
        assert f"| correct and ended | {mean:.3f} |" in text
        assert "tuneshift embedded build --out DIR" in text
        assert "Seed 3" in text
    for part in record["members"]["base"]["training"].values():
        assert part["corpus_sha256"] in (family / "base" / "README.md").read_text()


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
    times = [(family / name / "model.safetensors").stat().st_mtime_ns for name in ("base", "instruct")]
    cards = (family / "family.json").read_text()
    shutil.rmtree(family / ".build" / "measured" / "instruct")
    (family / WORDS).unlink()
    build(family, 3, recipe=small_recipe(), workers=0)
    assert times == [(family / name / "model.safetensors").stat().st_mtime_ns for name in ("base", "instruct")]
    assert (family / "family.json").read_text() == cards


def test_the_same_seed_gives_the_same_weights(family: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", 3, recipe=small_recipe(), workers=0)
    for name in ("base", "instruct"):
        own = (family / name / "model.safetensors").read_bytes()
        assert own == (again / name / "model.safetensors").read_bytes()
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


def test_check_passes_and_tells_every_number(family: Path) -> None:
    lines: list[str] = []
    result = check(family, tell=lines.append)
    assert result.passed
    assert len(lines) == len(result.numbers) == 10
    assert all(number.measured == pytest.approx(number.card, abs=1e-4) for number in result.numbers)


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
    with pytest.raises(UsageError, match=r"no member chat.*it has base, instruct"):
        check(family, members=["chat"])


def test_a_recipe_lists_its_members() -> None:
    assert isinstance(load_recipe().member("base"), Member)
    with pytest.raises(UsageError, match="its members are base, base-far, instruct, response-only, single-task"):
        load_recipe().member("chat")
