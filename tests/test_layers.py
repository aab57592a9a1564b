"""Rooms import from rooms below only, no files import each other in a circle, and the plugin's start-up stays light."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tuneshift

PACKAGE = Path(tuneshift.__file__).parent
spec = importlib.util.spec_from_file_location("rooms", Path(__file__).resolve().parents[1] / "docs" / "rooms.py")
assert spec
assert spec.loader
rooms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rooms)
circles, room = rooms.circles, rooms.room

LAYERS = (
    {"errors", "files", "plain"},
    {"statistics", "resources", "parse"},
    {"readings", "record_fields"},
    {"config", "checkpoints", "run_record"},
    {"prompts", "words", "backends"},
    {"checkpoint_specs", "store"},
    {"pairs", "tuning"},
    {"chat"},
    {"judges", "annotators", "embedded"},
    {"measures", "doctor"},
    {"claims"},
    {"engine", "quantities", "gate", "report"},
    {"session"},
    {"commands", "plugin"},
    {"cli"},
)
"""From the bottom up. A room imports from rows below its own."""

FREE_OF_TORCH = (
    "errors", "files", "plain", "parse", "resources", "readings", "config", "run_record", "record_fields",
    "checkpoint_specs", "pairs", "plugin", "cli",
    "claims", "quantities", "statistics", "gate", "report", "session", "store", "prompts", "words", "judges",
    "annotators", "chat", "engine",
)  # fmt: skip
HEAVY = ("torch", "transformers", "scipy.stats", "pyarrow", "jinja2", "tqdm")


MODULES = list(rooms.modules(PACKAGE).values())
GRAPH = rooms.import_graph(PACKAGE)


def height(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def test_every_room_has_its_layer():
    found = {room(name) for name in GRAPH}
    assert found == set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(found)


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_rooms_import_from_below(name):
    outside = {room(other) for other in GRAPH[name]} - {room(name)}
    upward = {other for other in outside if height(other) >= height(room(name))}
    assert not upward, f"{name} imports {upward}, which do not lie below {room(name)}"


def test_no_files_import_each_other_in_a_circle():
    assert list(circles(GRAPH)) == []
    assert list(circles(rooms.between_rooms(GRAPH))) == []


def test_a_circle_would_be_seen():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) != []
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []


def test_modules_are_small_and_few_lie_at_the_root():
    sizes = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES if p.name != "__init__.py")
    assert sizes[len(sizes) // 2] <= 150
    assert sizes[-1] <= 400, [p for p in MODULES if len(p.read_text(encoding="utf-8").splitlines()) > 400]
    assert len(list(PACKAGE.glob("*.py"))) <= 14


def test_only_the_plugin_and_what_it_registers_import_pytest():
    def imports_pytest(path: Path) -> bool:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {
            id(n)
            for t in ast.walk(tree)
            if isinstance(t, ast.If) and ast.unparse(t.test) == "TYPE_CHECKING"
            for n in ast.walk(t)
        }
        return any(
            isinstance(n, ast.Import) and any(a.name == "pytest" for a in n.names) and id(n) not in guarded
            for n in ast.walk(tree)
        )

    assert [p.stem for p in MODULES if imports_pytest(p)] == ["plugin", "workers"]


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """What importing each module loads of the heavy libraries, each in a process of its own."""
    code = (
        "import importlib, json, os, sys\n"
        "found = {}\n"
        "for name in sys.argv[1].split(','):\n"
        "    r, w = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        importlib.import_module('tuneshift.' + name)\n"
        f"        os.write(w, json.dumps([m for m in {HEAVY!r} if m in sys.modules]).encode())\n"
        "        os._exit(0)\n"
        "    os.close(w)\n"
        "    found[name] = json.loads(os.fdopen(r).read())\n"
        "    os.wait()\n"
        "print(json.dumps(found))"
    )
    names = [name for name in sorted(GRAPH) if room(name) in FREE_OF_TORCH]
    done = subprocess.run([sys.executable, "-c", code, ",".join(names)], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [name for name in sorted(GRAPH) if room(name) in FREE_OF_TORCH])
def test_importing_it_loads_nothing_heavy(name, loaded):
    assert set(loaded[name]) <= ({"jinja2"} if room(name) == "report" else set())
