"""pairs.py: options and TOML to pairs, and what a user reads when they are wrong."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tuneshift import checkpoint_specs
from tuneshift import pairs as module
from tuneshift.checkpoints.refs import LMBackend
from tuneshift.errors import PairError
from tuneshift.pairs import ModelPair, SingleTask, _pair_name, left_out, load_pairs, resolve_pairs
from tuneshift.prompts.prompt import PromptSource
from tuneshift.words.spec import words_from_option


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("base", "tuned", "adapter", "recorded"):
        (tmp_path / name).mkdir()
    (tmp_path / "set.jsonl").write_text("{}\n")
    (tmp_path / "known.toml").write_text("")
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "recorded" / "llama-7b.attributions.parquet").write_bytes(b"")
    return tmp_path


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped data folder with two embedded models and one pair, in place of tuneshift's own."""
    data = folder / "data"
    for name in ("micro/base", "micro/instruct"):
        (data / "models" / name).mkdir(parents=True)
        (data / "models" / name / "config.json").write_text("{}")
    (data / "pairs.toml").write_text('[pairs.micro]\nbase = "embedded:micro/base"\ntuned = "embedded:micro/instruct"\n')
    for one in (module, checkpoint_specs):
        monkeypatch.setattr(one, "fixture", lambda relative: data / relative)
    return data


def read(folder: Path, text: str, name: str = "pairs.toml") -> dict[str, ModelPair]:
    path = folder / name
    path.write_text(text)
    return load_pairs(path)


def one(folder: Path, body: str) -> ModelPair:
    return read(folder, f"[pairs.p]\n{body}")["p"]


def message(folder: Path, body: str) -> str:
    with pytest.raises(PairError) as error:
        one(folder, body)
    text = str(error.value)
    assert text.startswith(f"{folder / 'pairs.toml'}, pair 'p'"), text
    return text


def resolve(here: Path, *, tuned: str | tuple[str, ...] = (), **options: Any) -> tuple[ModelPair, ...]:
    given: dict[str, Any] = {"base": None, "pairs_file": None, "names": (), "prompts": ()}
    several = (tuned,) if isinstance(tuned, str) else tuned
    return resolve_pairs(**{**given, **options}, tuned=several, here=here)


def test_a_checkpoint_is_a_string_or_a_table(folder: Path) -> None:
    pair = one(
        folder,
        """
        base = "base"
        tuned = { model = "org/Model-3.1-8B", revision = "v2", adapter = "./adapter", dtype = "bfloat16",
                  device_map = "auto", trust_remote_code = true, chat_template = "chat.jinja" }
        response_tuned = "org/other"
        prompts = ["general", "set.jsonl", { path = "./set.jsonl", groups = { a = "a_*", b = "b_*" } }]
        expectations = "known.toml"
        ratings = "vicuna_7b_rating"
        """.replace("\n                  ", " "),
    )
    assert pair.base.model == str(folder / "base")
    assert (pair.base.name, pair.tuned.name) == ("base", "adapter")
    assert pair.tuned.model == "org/Model-3.1-8B"
    assert pair.tuned.adapter == str(folder / "adapter")
    assert (pair.tuned.revision, pair.tuned.dtype, pair.tuned.device_map) == ("v2", "bfloat16", "auto")
    assert pair.tuned.trust_remote_code
    assert not pair.base.trust_remote_code
    assert pair.tuned.chat_template == str(folder / "chat.jinja")
    assert pair.checkpoint("response_tuned") is not None
    assert pair.checkpoint("single_task_tuned") is None
    assert [source.path for source in pair.prompts] == ["general", *[str(folder / "set.jsonl")] * 2]
    assert pair.prompts[2].groups == {"a": "a_*", "b": "b_*"}
    assert pair.expectations == folder / "known.toml"
    assert pair.ratings == "vicuna_7b_rating"


def test_recorded_evidence_has_no_model_and_needs_its_prompt_set(folder: Path) -> None:
    file = "recorded/llama-7b.attributions.parquet"
    pair = one(folder, f'base = {{evidence = "{file}"}}\ntuned = {{evidence = "recorded"}}\nprompts = ["set.jsonl"]')
    assert (pair.base.evidence, pair.base.model) == (folder / file, None)
    assert (pair.base.name, pair.tuned.name) == ("llama-7b", "recorded")
    assert "recorded on" in message(folder, f'base = {{evidence = "{file}"}}\ntuned = "tuned"')


def test_variables_and_home_are_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("NOWHERE", raising=False)
    pair = one(folder, 'base = "$WEIGHTS/base"\ntuned = "~/tuned"')
    assert (pair.base.model, pair.tuned.model) == (str(folder / "base"), str(folder / "tuned"))
    text = message(folder, 'base = "${NOWHERE}/base"\ntuned = "tuned"')
    assert "base: environment variable NOWHERE in '${NOWHERE}/base' is not set" in text


def test_paths_start_from_the_pair_file_and_not_from_the_working_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert one(folder, 'base = "base"\ntuned = "./tuned"').tuned.model == str(folder / "tuned")


def test_an_existing_folder_wins_over_a_hub_id(folder: Path) -> None:
    (folder / "org" / "name").mkdir(parents=True)
    pair = one(folder, 'base = "org/name"\ntuned = "org/Name-0.5B"')
    assert (pair.base.model, pair.tuned.model) == (str(folder / "org/name"), "org/Name-0.5B")
    assert (pair.base.name, pair.tuned.name) == ("name", "org/Name-0.5B")


def test_names_in_other_scripts_are_told_apart_and_are_one_in_either_form(folder: Path) -> None:
    tuned = [folder / name for name in ("模型一", "模型二", "Ünï")]
    for path in tuned:
        path.mkdir()
    names = [pair.name for pair in resolve(folder, base="gpt2", tuned=[str(path) for path in tuned])]
    assert names == ["gpt2-模型一", "gpt2-模型二", "gpt2-Ünï"]
    decomposed = "gpt2-U\u0308ni\u0308"
    assert _pair_name(decomposed) == _pair_name("gpt2-Ünï") == "gpt2-Ünï"


def test_a_checkpoint_that_is_given_twice_is_said(folder: Path) -> None:
    with pytest.raises(PairError, match=r"--tuned=distilgpt2 is given 2 times and makes one pair; give it once"):
        resolve(folder, base="gpt2", tuned=["distilgpt2", "distilgpt2"])


def test_equal_short_names_fall_back_to_what_was_written(folder: Path) -> None:
    for name in ("a/model", "b/model"):
        (folder / name).mkdir(parents=True)
    pair = one(folder, 'base = "a/model"\ntuned = { model = "b/model" }')
    assert (pair.base.name, pair.tuned.name) == ("a/model", "b/model")


def test_a_pair_without_prompts_gets_the_shipped_set(folder: Path) -> None:
    assert one(folder, 'base = "base"\ntuned = "tuned"').prompts == (PromptSource(path="general"),)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('base = "base"', "'tuned' is missing"),
        (
            'base = "base"\ntuned = "tuned"\nprompt = []',
            "unknown key 'prompt'; did you mean 'prompts'? known: attribute_tokens, base",
        ),
        (
            'base = "base"\ntuned = { model = "tuned", revison = "x" }',
            "unknown key 'revison'; did you mean 'revision'?",
        ),
        ('base = "base"\ntuned = { model = "tuned", revision = "x" }', "'tuned' is a folder"),
        ('base = 3\ntuned = "tuned"', "base: a table is wanted, got integer 3"),
        ('base = "base"\ntuned = "tuned"\nchat_date = "today"', "a day is wanted, as 2024-07-26, got 'today'"),
        ('base = "base"\ntuned = "tuned"\nchat_date = 2024-07-26T10:00:00', "a day is wanted"),
        ('base = "base"\ntuned = "tuned"\nchat_template_kwargs = 3', "chat_template_kwargs: a table is wanted"),
        (
            'base = "base"\ntuned = "tuned"\nchat_template_kwargs = { messages = [] }',
            "'messages' is rendering's own; set variables that the template names itself",
        ),
        (
            'base = "base"\ntuned = "tuned"\nchat_template_kwargs = { a = { b = [2024-07-26] } }',
            "chat_template_kwargs, a, b: a string, number, boolean, list or table is wanted",
        ),
        (
            'base = "base"\ntuned = "tuned"\nthinking = "<think>"',
            "two strings are wanted, which begin and end thoughts",
        ),
        ('base = "base"\ntuned = "tuned"\nplain_format = 3', "plain_format: a string is wanted, got integer 3"),
        ('base = "base"\ntuned = "tuned"\nplain_format = "nome"', "'nome' does not exist"),
        ('base = ""\ntuned = "tuned"', "base: the string is empty"),
        ('base = { model = "base", trust_remote_code = "yes" }\ntuned = "tuned"', "a boolean is wanted, got string"),
        ('base = { model = "base", dtype = "float31" }\ntuned = "tuned"', "did you mean 'float32'?"),
        ('base = { model = "base", chat_template = "nome" }\ntuned = "tuned"', "'nome' does not exist"),
        (
            'base = { model = "base", backend_args = "a=1" }\ntuned = "tuned"',
            "arguments of a 'backend', which is missing",
        ),
        ('base = { model = "base", backend = ["hf"] }\ntuned = "tuned"', "backend: a string is wanted, got list"),
        ('base = { evidence = "recorded", backend = "hf" }\ntuned = "tuned"', "'backend' says how weights are loaded"),
        ('base = { revision = "x" }\ntuned = "tuned"', "either 'model' or 'evidence', got neither"),
        ('base = { model = "base", evidence = "recorded" }\ntuned = "tuned"', "got both"),
        ('base = { evidence = "recorded", dtype = "float32" }\ntuned = "tuned"', "recorded evidence has none"),
        ('base = { evidence = "nowhere" }\ntuned = "tuned"', "recorded evidence 'nowhere' does not exist"),
        ('base = "./bse"\ntuned = "tuned"', "'./bse' is neither a folder"),
        ('base = "bse"\ntuned = "tuned"', "'bse' is no folder, and 'base' beside it looks alike"),
        ('base = "?"\ntuned = "tuned"', "nor a hub id of the form org/name or name"),
        ('base = "a/b/c"\ntuned = "tuned"', "'a/b/c' is neither a folder"),
        ('base = "org/model.safetensors"\ntuned = "tuned"', "is neither a folder"),
        ('base = "set.jsonl"\ntuned = "tuned"', "'set.jsonl' is a file; name the folder"),
        ('base = "base"\ntuned = "tuned"\nprompts = "general"', "prompts: a list is wanted, got string 'general'"),
        ('base = "base"\ntuned = "tuned"\nprompts = []', "the list is empty"),
        ('base = "base"\ntuned = "tuned"\nprompts = [3]', "prompts: a table is wanted, got integer 3"),
        ('base = "base"\ntuned = "tuned"\nprompts = ["no.jsonl"]', "prompt set 'no.jsonl' does not exist"),
        ('base = "base"\ntuned = "tuned"\nprompts = [{ groups = {} }]', "has a 'path'"),
        ('base = "base"\ntuned = "tuned"\nprompts = [{ path = "g", group = {} }]', "did you mean 'groups'?"),
        ('base = "base"\ntuned = "tuned"\nprompts = [{ path = "g", groups = { a = 1 } }]', "groups, 'a': a string"),
        ('base = "base"\ntuned = "tuned"\nratings = 2', "ratings: a string is wanted, got integer 2"),
    ],
)
def test_a_malformed_pair_is_named_with_what_is_accepted(folder: Path, body: str, expected: str) -> None:
    assert expected in message(folder, body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no pairs in this file; declare one as [pairs.NAME]"),
        ("[pairs]\n", "no pairs in this file"),
        ("[pair.p]\n", "unknown key 'pair'; did you mean 'pairs'?"),
        ("pairs = 1\n", "'pairs': a table is wanted, got integer 1"),
        ("[pairs.p\n", "not TOML"),
        ('[pairs."a b"]\nbase = "base"\ntuned = "tuned"\n', "letters, digits"),
    ],
)
def test_a_malformed_file_is_named(folder: Path, text: str, expected: str) -> None:
    with pytest.raises(PairError) as error:
        read(folder, text)
    assert str(folder / "pairs.toml") in str(error.value)
    assert expected in str(error.value)


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(PairError, match=r"nowhere\.toml does not exist"):
        load_pairs(folder / "nowhere.toml")


def test_base_and_tuned_make_one_pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (pair,) = resolve(folder, base="base", tuned="org/My Tuned".replace(" ", "."))
    assert (pair.name, pair.base.model, pair.tuned.model) == ("base-My.Tuned", str(folder / "base"), "org/My.Tuned")
    assert pair.prompts == (PromptSource(path="general"),)
    (same,) = resolve(folder, base="org/x", tuned="other/x")
    assert same.name == "org-x-other-x"
    (folder / "b @ é").mkdir()
    (odd,) = resolve(folder, base="base", tuned="./b @ é")
    assert odd.name == "base-b-é"


def test_every_tuned_checkpoint_makes_a_pair_named_as_it_is_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name in ("ckpt-1", "ckpt-2", "one/final", "two/final", "deep/two/final"):
        (folder / name).mkdir(parents=True)
    assert [p.name for p in resolve(folder, base="base", tuned=("ckpt-2", "ckpt-1"))] == ["base-ckpt-2", "base-ckpt-1"]
    assert [resolve(folder, base="base", tuned=n)[0].name for n in ("ckpt-1", "one/final")] == [
        "base-ckpt-1",
        "base-final",
    ]
    pairs = resolve(folder, base="base", tuned=("one/final", "ckpt-1", "two/final"))
    assert [pair.name for pair in pairs] == ["base-one-final", "base-ckpt-1", "base-two-final"]
    assert len({pair.base for pair in pairs}) == 1
    assert [pair.tuned.model for pair in pairs] == [str(folder / n) for n in ("one/final", "ckpt-1", "two/final")]
    named = {p.tuned.model: p.name for p in resolve(folder, base="base", tuned=("two/final", "deep/two/final"))}
    assert named[str(folder / "deep/two/final")] == "base-deep-two-final"
    assert resolve(folder, base="base", tuned=("deep/two/final", "two/final"))[0].name == "base-deep-two-final"
    hub = resolve(folder, base="org/base", tuned=("a/chat", "b/chat"))
    assert [pair.name for pair in hub] == ["base-a-chat", "base-b-chat"]
    with pytest.raises(PairError, match=r"--tuned ckpt-1 and \./ckpt-1: these make pairs that no name tells apart"):
        resolve(folder, base="base", tuned=("ckpt-1", "./ckpt-1"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"base": "base"}, "--base is given without --tuned"),
        ({"tuned": "tuned"}, "--tuned is given without --base"),
        ({"base": "base", "tuned": "tuned", "pairs_file": Path("p.toml")}, "--pairs and --base/--tuned exclude"),
        ({"base": "base", "tuned": "tuned", "names": ["x"]}, "--pair and --base/--tuned exclude"),
        ({"base": "./nowhere", "tuned": "tuned"}, "--base: './nowhere' is neither a folder"),
        ({"base": "", "tuned": "tuned"}, "--base: the string is empty"),
        ({"base": "recorded/llama-7b.attributions.parquet", "tuned": "tuned"}, "goes under 'evidence' in a pair file"),
        (
            {"base": "base", "tuned": "tuned", "prompts": ["no/set.jsonl"]},
            "--shift-prompts: prompt set 'no/set.jsonl' does",
        ),
    ],
)
def test_contradicting_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PairError) as error:
        resolve(folder, **options)
    assert expected in str(error.value)


def test_names_choose_among_a_files_pairs(folder: Path) -> None:
    path = folder / "pairs.toml"
    path.write_text("".join(f'[pairs.{name}]\nbase = "base"\ntuned = "tuned"\n' for name in ("one", "two", "three")))
    assert [pair.name for pair in resolve(folder, pairs_file=path)] == ["one", "two", "three"]
    assert [pair.name for pair in resolve(folder, pairs_file=path, names=["two", "one", "two"])] == ["two", "one"]
    with pytest.raises(PairError) as error:
        resolve(folder, pairs_file=path, names=["thre"])
    assert "has no such pair; did you mean 'three'? known: one, three, two" in str(error.value)
    assert left_out(pairs_file=path, names=["two"], here=folder) == ("one", "three")
    assert left_out(pairs_file=path, names=[], here=folder) == ()


def test_prompts_on_the_command_line_replace_every_pairs_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = folder / "pairs.toml"
    path.write_text("".join(f'[pairs.{n}]\nbase="base"\ntuned="tuned"\nprompts=["x"]\n' for n in ("one", "two")))
    for pair in resolve(folder, pairs_file=path, prompts=["./set.jsonl", "general"]):
        assert [source.path for source in pair.prompts] == [str(folder / "set.jsonl"), "general"]


def test_the_project_comes_before_the_shipped_pairs(folder: Path, shipped: Path) -> None:
    assert [pair.name for pair in resolve(folder)] == ["micro"]
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.other]\na = 1\n')
    assert [pair.name for pair in resolve(folder)] == ["micro"]
    (folder / "pyproject.toml").write_text('[tool.tuneshift.pairs.mine]\nbase = "base"\ntuned = "tuned"\n')
    assert [pair.name for pair in resolve(folder)] == ["mine"]
    (folder / "inner" / ".git").mkdir(parents=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "pyproject.toml").write_text('[project]\nname = "y"\n')
    assert [pair.name for pair in resolve(folder / "sub")] == ["mine"]
    assert [pair.name for pair in resolve(folder / "inner")] == ["micro"]
    (folder / "pyproject.toml").write_text('[tool.tuneshift.pair.mine]\nbase = "base"\ntuned = "tuned"\n')
    with pytest.raises(PairError, match=r"\[tool\.tuneshift\]: unknown key 'pair'; did you mean 'pairs'"):
        resolve(folder)


def test_load_pairs_wants_pairs_even_in_a_pyproject(folder: Path) -> None:
    with pytest.raises(PairError, match=r"declare one as \[tool\.tuneshift\.pairs\.NAME\]"):
        read(folder, "[project]\n", name="pyproject.toml")


def test_embedded_names_are_folders_and_unknown_ones_list_the_shipped(folder: Path, shipped: Path) -> None:
    pair = one(folder, 'base = "embedded:micro/base"\ntuned = "embedded:micro/instruct"')
    assert pair.base.model == str(shipped / "models/micro/base")
    assert (pair.base.name, pair.tuned.name) == ("micro/base", "micro/instruct")
    (options,) = resolve(folder, base="embedded:micro/base", tuned="embedded:micro/instruct")
    assert options.name == "base-instruct"
    for wrong in ("micro/instuct", "../models/micro/base"):
        text = message(folder, f'base = "base"\ntuned = "embedded:{wrong}"')
        assert f"no embedded model {wrong!r}; " in text
        assert "known: micro/base, micro/instruct" in text


def test_importing_pairs_imports_no_model_library() -> None:
    code = "import sys, tuneshift.pairs; print({'torch', 'transformers', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_shipped_pair_file_names_the_micro_pair(shipped: Path) -> None:
    (shipped / "expectations").mkdir()
    (shipped / "expectations" / "micro.toml").write_text("")
    for name in ("response-only", "single-task"):
        (shipped / "models" / "micro" / name).mkdir(parents=True)
        (shipped / "models" / "micro" / name / "config.json").write_text("{}")
    (shipped / "models" / "micro" / "words.npz").write_bytes(b"")
    (shipped / "micro").mkdir()
    (shipped / "micro" / "describe.jsonl").write_text("")
    (shipped / "pairs.toml").write_text((Path(__file__).parents[1] / "fixtures" / "pairs.toml").read_text())
    (pair,) = resolve(shipped)
    assert (pair.name, pair.base.name, pair.tuned.name) == ("micro", "micro/base", "micro/instruct")
    assert pair.prompts == (PromptSource(path="micro-heldout"),)
    assert {role: ref.name for role, ref in pair.siblings.items()} == {
        "response_tuned": "micro/response-only",
        "single_task_tuned": "micro/single-task",
    }
    assert pair.expectations == shipped / "expectations" / "micro.toml"
    assert pair.single_task == SingleTask(examples=shipped / "micro" / "describe.jsonl", prompts="describe")
    assert pair.vocabulary == pair.word_vectors == "embedded:micro/words.npz"


def test_words_are_a_number_a_name_or_a_file_that_is_there(shipped: Path) -> None:
    assert words_from_option("--shift-vocabulary", "500") == "500"
    assert words_from_option("--shift-word-vectors", "minilm") == "minilm"
    assert words_from_option("--shift-word-vectors", None) is None
    for value, message in (("-3", "at least 1 is wanted, got -3"), ("no.txt", "does not exist")):
        with pytest.raises(PairError, match=message):
            words_from_option("--shift-vocabulary", value)


def test_the_documented_pair_file_is_read(folder: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "pairs.md").read_text(encoding="utf-8")
    text = page.split("## The pair file\n")[1].split("In `pyproject.toml`")[0]
    for name in ("checkpoints/base", "checkpoints/lora", "checkpoints/response-only", "prompts", "expectations"):
        (folder / name).mkdir(parents=True)
    for name in ("prompts/own.jsonl", "expectations/mine.toml", "recorded/prompts.jsonl"):
        (folder / name).write_text("")
    (folder / "recorded" / "vicuna-7b.attributions.parquet").write_text("")
    pairs = read(folder, "\n".join(line.removeprefix("    ") for line in text.splitlines()))
    assert list(pairs) == ["qwen", "mine", "llama-vicuna"]
    assert pairs["llama-vicuna"].prompts[0].groups == {"self-instruct": "user_oriented_task_*", "mt-bench": "mtbench_*"}


@pytest.mark.parametrize("value", ["0", "-3", "true", '"12"', "1.5"])
def test_a_longest_response_that_is_no_count_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "pairs.toml"
    path.write_text(f'[pairs.p]\nbase = "org/a"\ntuned = "org/b"\nmax_new_tokens = {value}\n')
    with pytest.raises(PairError, match=r"max_new_tokens.*at least 1"):
        load_pairs(path)
    path.write_text('[pairs.p]\nbase = "org/a"\ntuned = "org/b"\nmax_new_tokens = 12\n')
    assert load_pairs(path)["p"].max_new_tokens == 12


@pytest.mark.parametrize("value", ["4", "0", "true", '"12"', "8.5"])
def test_attributed_tokens_are_a_count_of_at_least_one_for_each_fifth(tmp_path: Path, value: str) -> None:
    path = tmp_path / "pairs.toml"
    path.write_text(f'[pairs.p]\nbase = "org/a"\ntuned = "org/b"\nattribute_tokens = {value}\n')
    with pytest.raises(PairError, match=r"attribute_tokens.*at least 5"):
        load_pairs(path)
    path.write_text('[pairs.p]\nbase = "org/a"\ntuned = "org/b"\nattribute_tokens = 5\n')
    assert load_pairs(path)["p"].attribute_tokens == 5


def test_a_checkpoint_names_what_scores_and_generates_for_it(folder: Path) -> None:
    body = 'base = { model = "base", backend = "vllm", backend_args = "max_model_len=64" }\ntuned = "tuned"'
    pair = one(folder, body)
    assert (pair.base.backend, pair.tuned.backend) == (LMBackend(name="vllm", args="max_model_len=64"), None)


def test_a_hub_id_needs_no_organisation(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (pair,) = resolve_pairs(base="gpt2", tuned=("distilgpt2",), pairs_file=None, names=(), prompts=(), here=folder)
    assert (pair.base.model, pair.base.name, pair.tuned.model) == ("gpt2", "gpt2", "distilgpt2")
    assert pair.name == "gpt2-distilgpt2"


def test_a_pair_says_how_its_chat_format_is_rendered(folder: Path) -> None:
    two = 'base = "base"\ntuned = "tuned"\n'
    pair = one(
        folder, two + 'chat_date = 2025-03-01\nchat_template_kwargs = { enable_thinking = false, level = "low" }'
    )
    assert pair.chat_date == one(folder, two + 'chat_date = "2025-03-01"').chat_date == date(2025, 3, 1)
    assert pair.chat_template_kwargs == {"enable_thinking": False, "level": "low"}
    assert pair.thinking is None
    assert one(folder, two + 'thinking = "none"').thinking == ()
    assert pair.plain_format is None
    assert one(folder, two + 'plain_format = "none"').plain_format == "none"
    (folder / "plain.jinja").write_text("Q: {{ messages[0].content }}")
    assert one(folder, two + 'plain_format = "plain.jinja"').plain_format == str(folder / "plain.jinja")
    assert one(folder, two + 'thinking = ["<t>", "</t>"]').thinking == ("<t>", "</t>")
