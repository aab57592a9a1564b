"""Every command and every block of code in README and docs: known, parsed, and where it is cheap, run."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import docs_text as pages
import numpy as np
import pytest

from tuneshift.cli import main, parser
from tuneshift.session.options import add_options, valued_options
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.store import Store

BLOCKS, COMMANDS = list(pages.blocks()), list(pages.commands())
SLOW = {
    "pytest": "measures checkpoints: minutes",
    "make": "sets up an environment: minutes",
    "tuneshift tune": "trains a model",
    "tuneshift embedded": "trains or measures models, or writes files",
    "tuneshift doctor": "says what this machine has; tests/doctor/test_doctor.py runs it",
    "tuneshift evidence export tuneshift-results": "wants a run; tests/commands/test_sharing.py runs it",
    "tuneshift report": "wants a run record; tests/test_cli.py runs it",
    "tuneshift outputs": "wants evidence of a pair",
    "tuneshift gate": "wants a run record and a baseline; tests/gate/test_compare.py and tests/plugin run it",
    "tuneshift bless": "wants a run record; tests/gate/test_baselines.py and tests/plugin run it",
    "tuneshift merge": "wants run records; tests/gate/test_shards.py runs it",
    "tuneshift open": "opens a browser; tests/test_cli.py runs it",
    "tuneshift power --finding wu2023.prompt_middle_recovers --from": "wants a run record; test_cli_power.py runs it",
    "tuneshift annotators --annotator embedding --word-vectors minilm": "a minute of MiniLM",
    "tuneshift judges --judge similarity --word-vectors minilm": "half a minute of MiniLM",
    "python": "benchmarks and examples: minutes",
    "pip": "installs",
    "bash": "the whole of CI",
    "/tmp/bench/bin": "an environment that a benchmark's page has made",
}
"""Beginnings of commands that are checked and not run, with the reason. Everything else is run."""


def cheap(command: pages.Command) -> bool:
    return "--help" in command.words or not command.line.startswith(tuple(SLOW))


def ids(items):
    return [f"{item.where} {getattr(item, 'line', '')}".strip() for item in items]


def test_the_pages_have_commands_of_every_kind():
    """An empty collection would pass every test below."""
    programs = {command.words[0] for command in COMMANDS}
    assert {"tuneshift", "pytest", "python", "make"} <= programs
    assert {"shell", "python", "toml", "jsonl"} <= {block.language for block in BLOCKS}
    assert any(cheap(command) for command in COMMANDS)
    assert len(COMMANDS) > 50


class OptionGroup:
    """pytest's option group, as far as the plugin uses it, over an argparse parser."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)

    def getgroup(self, *_: str) -> OptionGroup:
        return self

    def addoption(self, *names: str, **attributes: object) -> None:
        self.parser.add_argument(*names, **attributes)


@pytest.fixture(scope="module")
def pytest_options() -> set[str]:
    """Every option that pytest knows here, its plugins' included."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", done.stdout))


def check_pytest(words: tuple[str, ...], known: set[str]) -> None:
    group = OptionGroup()
    add_options(group)
    _, rest = group.parser.parse_known_args([*words[1:]])
    for word in (w for w in rest if w.startswith("-") and not re.match(r"-\d", w)):
        assert word.split("=")[0] in known, f"pytest has no option {word}"
    for path in (w for w in rest if w.startswith(("suites", "tests"))):
        assert (pages.ROOT / path.split("::")[0]).exists(), f"{path} does not exist"


def check_tuneshift(words: tuple[str, ...]) -> None:
    code = 0
    try:
        parser().parse_args(words[1:])
    except SystemExit as stop:  # --help stops with 0, a mistake with 2
        code = stop.code
    assert code == 0, f"{shlex.join(words)} is no command line of tuneshift"


def check_python(words: tuple[str, ...]) -> None:
    """A script that exists and knows the options, or a module that is installed."""
    if words[1:2] == ("-m",):
        assert words[2] in ("venv", "pytest", "pip", "mkdocs", "nltk.downloader"), f"which module is {words[2]}?"
        return
    script = pages.ROOT / words[1]
    assert script.is_file(), f"{words[1]} does not exist"
    source = ast.parse(script.read_text(encoding="utf-8"))
    declared = {
        node.args[0].value for node in ast.walk(source)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument" and node.args
    }  # fmt: skip
    for word in (w.split("=")[0] for w in words[2:] if w.startswith("--")):
        assert word in declared, f"{words[1]} has no option {word}; it has {sorted(declared)}"


def check_extras(words: tuple[str, ...]) -> None:
    known = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(known), f"no extra {named}"


def check_make(words: tuple[str, ...]) -> None:
    targets = re.findall(r"^([\w-]+):", (pages.ROOT / "Makefile").read_text(), flags=re.M)
    for word in words[1:]:
        assert "=" in word or word in targets, f"the Makefile has no {word}"


@pytest.mark.parametrize("command", COMMANDS, ids=ids(COMMANDS))
def test_a_command_line_is_one_that_its_program_takes(command, pytest_options):
    program = Path(command.words[0]).name
    if program == "pytest":
        check_pytest(command.words, pytest_options)
    elif program == "tuneshift":
        check_tuneshift(command.words)
    elif program == "python":
        check_python(command.words)
        check_extras(command.words)
    elif program == "pip":
        check_extras(command.words)
    elif program == "make":
        check_make(command.words)
    elif program == "bash":
        assert (pages.ROOT / command.words[1]).is_file()
    else:
        pytest.fail(f"{command.where}: no rule for {program!r}; add one, or mark the block as text")


def subcommands(given: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    """The parser of the (sub)command that the words lead to; fails at a word that is no command."""
    for action in given._actions:
        if isinstance(action, argparse._SubParsersAction):
            if not words or words[0].startswith("-") or words[0].isupper():
                return given
            # a|b|c names several at once
            for word in words[0].split("|"):
                assert word in action.choices, f"no command {word!r}; there are {', '.join(action.choices)}"
            return subcommands(action.choices[words[0].split("|")[0]], words[1:])
    return given


INLINE = [(where, code) for where, code in pages.inline("tuneshift")]


@pytest.mark.parametrize(("where", "code"), INLINE, ids=[f"{where} {code}" for where, code in INLINE])
def test_an_inline_command_names_a_command_and_its_options(where, code):
    words = code.replace("[", " ").replace("]", " ").split()[1:]
    known = {name for action in subcommands(parser(), words)._actions for name in action.option_strings}
    for word in (w.split("=")[0] for w in words if w.startswith("--")):
        assert word in known, f"{where}: {code} has no option {word}"


OPTIONS = [(where, code) for where, code in pages.inline(r"--shift-\S+")] + [
    (where, code) for where, code in pages.inline("pytest")
]


@pytest.mark.parametrize(("where", "code"), OPTIONS, ids=[f"{where} {code}" for where, code in OPTIONS])
def test_an_inline_option_is_one_of_the_plugins(where, code, pytest_options):
    for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
        assert word in pytest_options, f"{where}: pytest has no option {word}"


RECIPES = [
    (path.name, line)
    for path in sorted((pages.ROOT / "docs" / "ci").glob("*.yml"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if "pytest " in line
]
TYPED = (
    [(c.where, c.line) for c in COMMANDS if Path(c.words[0]).name == "pytest"] + list(pages.inline("pytest")) + RECIPES
)


@pytest.mark.parametrize(("where", "line"), TYPED, ids=[where for where, _ in TYPED])
def test_an_option_of_ours_is_joined_to_its_value(where, line):
    """``--tuned FOLDER`` in two words gives pytest a path of tests, and the folder's repository a say in the run."""
    alone = [word for word in shlex.split(line) if word in valued_options()]
    assert not alone, f"{where}: write {alone[0]}=VALUE"


RUN = [command for command in COMMANDS if cheap(command)]


@pytest.mark.parametrize("command", RUN, ids=ids(RUN))
def test_a_cheap_command_runs_and_says_what_the_page_shows(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("TUNESHIFT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(pages.ROOT)
    assert command.words[0] == "tuneshift", f"{command.line} is run by nothing; give a reason in SLOW"
    if "--help" in command.words:
        with pytest.raises(SystemExit):
            main(command.words[1:])
    else:
        assert main(command.words[1:]) == 0
    if command.output is not None:
        assert_shown(command.output, capsys.readouterr().out)


def assert_shown(shown: str, said: str) -> None:
    """Every line of what a page shows is said in that order; ``...`` alone stands for any lines, inside one for any
    characters."""
    pattern = "\n".join(".*" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*")
                        for line in shown.split("\n"))  # fmt: skip
    if not re.search(pattern, said, flags=re.S):
        difference = difflib.unified_diff(shown.split("\n"), said.split("\n"), "the page", "the command", lineterm="")
        pytest.fail("\n".join(difference))


def test_the_comparison_of_outputs_finds_a_difference():
    assert_shown("1 sets, ... in X", "0\n1 sets, 3 kB in X\n")
    assert_shown("a\n...\nd", "a\nb\nc\nd")
    with pytest.raises(pytest.fail.Exception):
        assert_shown("2 sets", "1 sets")


def test_the_annotator_page_shows_what_the_command_prints(capsys):
    """The second table of docs/annotators.md; the first takes a minute of MiniLM."""
    page = (pages.ROOT / "docs" / "annotators.md").read_text(encoding="utf-8")
    assert main(["annotators", "--word-vectors", "embedded:micro/words.npz"]) == 0
    said = [line for line in capsys.readouterr().out.split("\n") if line.startswith("|")]
    assert len(said) > 10
    assert [line for line in said if line not in page] == []


CODE = [block for block in BLOCKS if block.language in ("python", "toml", "json", "jsonl", "yaml")]


@pytest.mark.parametrize("block", CODE, ids=ids(CODE))
def test_a_block_of_code_is_code(block):
    text = block.text
    if block.language == "python":
        ast.parse(text)
    elif block.language == "toml":
        tomllib.loads(text)
    elif block.language == "json":
        json.loads(text)
    elif block.language == "jsonl":
        for line in text.split("\n"):
            json.loads(line)


def python_of(page: str, words: str) -> str:
    """The Python block of a page that holds these words."""
    return next(b.text for b in CODE if b.where.startswith(page) and b.language == "python" and words in b.text)


def test_the_annotator_that_a_page_writes_is_one(capsys):
    exec(compile(python_of("docs/annotators.md", "class Lengths"), "annotators.md", "exec"), {})
    said = capsys.readouterr().out
    assert "| level | 157 |" in said
    assert "| none | 95 | 157 |" in said  # it gives no task to any list


def test_evidence_is_read_without_tuneshift_as_its_page_says(tmp_path, capsys):
    key = EvidenceKey(measure="attribution", version=1, params={}, checkpoint="c", dtype="float32", prompts="p")
    with Store(tmp_path).session(key, ("a", "b", "c"), {}, chunk_size=2) as session:
        for number, names in session.missing:
            session.write(number, [EvidenceItem(id=i, arrays={"x": np.zeros((2, ord(i)))}) for i in names])
    code = python_of("docs/evidence-format.md", "load_file")
    assert "tuneshift" not in code
    folder = tmp_path / "attribution" / key.digest
    exec(compile(code.replace('"STORE/attribution/0123..."', repr(str(folder))), "evidence-format.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[:3] == [f"{i} {{'x': (2, {ord(i)})}}" for i in "abc"]


PATHS = sorted(
    {
        (page.relative_to(pages.ROOT).as_posix(), path)
        for page in pages.PAGES
        for path in re.findall(
            r"`((?:plugins|suites|fixtures|tests|benchmarks|docs|measures|reports)/[\w./-]+)`", page.read_text("utf-8")
        )
    }
)


@pytest.mark.parametrize(("page", "path"), PATHS)
def test_a_file_that_a_page_names_exists(page, path):
    assert (pages.ROOT / path).exists() or (pages.ROOT / "plugins" / "tuneshift" / path).exists()
