"""docs/rooms.py: CONTRIBUTING names each package of tuneshift with its docstring's first line, shows the imports, and
says where a stranger looks."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "rooms.py"
spec = importlib.util.spec_from_file_location("rooms", SCRIPT)
assert spec
assert spec.loader
rooms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rooms)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, docstring in (("gate", "Baselines.\n\nMore."), ("chat", "Asking."), ("chat/inner", "Within.")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""{docstring}"""\n')
    (tmp_path / "no_room").mkdir()
    return tmp_path


def test_the_page_is_as_the_code_says():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_each_room_has_its_first_line_and_the_rest_of_the_page_stays(package):
    page = f"above\n{rooms.BEGIN}| old |\n{rooms.END}below\n"
    made = rooms.rewritten(page, package)
    assert made.splitlines()[4:7] == [
        "| `chat/` | Asking. |",
        "| `chat/inner/` | Within. |",
        "| `gate/` | Baselines. |",
    ]
    assert made.startswith("above\n")
    assert made.endswith(f"{rooms.END}below\n")
    assert "no_room" not in made
    assert rooms.rewritten(made, package) == made


def test_a_room_without_words_and_a_page_without_a_table_are_refused(package, monkeypatch):
    with pytest.raises(SystemExit, match="nothing between"):
        rooms.rewritten("above\n", package)
    (package / "gate" / "__init__.py").write_text("")
    monkeypatch.setattr(rooms, "ROOT", package)
    with pytest.raises(SystemExit, match=r"gate/__init__\.py has no docstring"):
        rooms.rewritten(f"{rooms.BEGIN}{rooms.END}", package)


def test_imports_are_counted_by_module_and_by_room_without_those_for_types_alone(package):
    (package / "gate" / "a.py").write_text("from ..chat import b\nfrom . import c\nx = 1\n")
    (package / "gate" / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import x\nimport tuneshift.chat.inner\n"
    )
    (package / "chat" / "b.py").write_text("def f():\n    from tuneshift.gate import c\n")
    graph = rooms.import_graph(package)
    assert {name: others for name, others in graph.items() if others} == {
        "gate.a": {"chat.b", "gate.c"}, "gate.c": {"chat.inner"}, "chat.b": {"gate.c"},
    }  # fmt: skip
    assert rooms.between_rooms(graph) == {"gate": {"chat"}, "chat": {"gate"}}
    assert rooms.picture(package).splitlines() == [
        "modules: 3",
        "median lines of a module: 3",
        "largest module: 4 lines, gate/c.py",
        "arrows between modules: 4",
        "arrows between rooms: 2",
        "modules in a circle: 0",
        "rooms in a circle: 2",
    ]


PAGE = rooms.PAGE.read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+")


def numbers(lines: list[str]) -> dict[str, int]:
    """What each line counts, by its words before the colon."""
    parts = (line.strip().partition(": ") for line in lines)
    return {what: int(NUMBER.match(said)[0]) for what, _, said in parts}


@pytest.mark.numerics
def test_the_page_shows_the_imports_as_they_are():
    """A tenth off at most, so that not every change of the code is one of the page; circles are none."""
    command, *shown = PAGE.partition(rooms.IMPORTS_BEGIN)[2].partition(rooms.IMPORTS_END)[0].strip().splitlines()
    assert command == "$ python docs/rooms.py --imports"
    written, counted = numbers(shown), numbers(rooms.picture(rooms.PACKAGE).splitlines())
    # A tenth, as CONTRIBUTING says
    assert written == pytest.approx(counted, rel=0.1), "python docs/rooms.py writes them anew"
    assert written["modules in a circle"] == written["rooms in a circle"] == 0


def looked_up() -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Each question of the page's table with the files to open and the names to find there."""
    section = PAGE.partition("## Where a stranger looks\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    return [
        (
            question,
            [(file, re.findall(r"`(\w+)`", names)) for file, names in re.findall(r"`([\w/.]+)` \((.*?)\)", where)],
        )
        for question, where in rows
    ]


def defines(file: Path, name: str) -> bool:
    """Whether a Python file defines a function or class at its top, or a template uses the name."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return re.search(rf"\{{[{{%].*\b{name}\b", text) is not None
    return any(getattr(node, "name", None) == name for node in ast.parse(text).body)


def test_ten_questions_are_answered_by_two_files_at_most():
    assert len(looked_up()) == 10
    assert all(1 <= len(files) <= 2 for _, files in looked_up())
    assert all(names for _, files in looked_up() for _, names in files)
    files = sum(len(files) for _, files in looked_up())
    assert PAGE.partition("## Where a stranger looks\n")[2].partition("\n## ")[0].count("(`") == files  # none unread


@pytest.mark.parametrize(("question", "files"), looked_up(), ids=[question for question, _ in looked_up()])
def test_the_files_that_a_stranger_is_sent_to_hold_what_is_named(question, files):
    for file, names in files:
        assert [name for name in names if not defines(rooms.ROOT / file, name)] == [], f"{question} {file}"


def test_a_name_that_is_elsewhere_is_missed():
    verdict, screen = rooms.PACKAGE / "claims" / "verdict.py", rooms.ROOT / "reports/templates/first_screen.html"
    assert defines(verdict, "judge")
    assert not defines(verdict, "gate_outcome")
    assert not defines(verdict, "finding")  # an argument there, no definition
    assert not defines(screen, "conclusion")  # an id of the page
