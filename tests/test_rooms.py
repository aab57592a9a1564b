"""docs/rooms.py: CONTRIBUTING names each package of tuneshift with its docstring's first line."""

from __future__ import annotations

import importlib.util
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
    with pytest.raises(SystemExit, match="no table between"):
        rooms.rewritten("above\n", package)
    (package / "gate" / "__init__.py").write_text("")
    monkeypatch.setattr(rooms, "ROOT", package)
    with pytest.raises(SystemExit, match=r"gate/__init__\.py has no docstring"):
        rooms.rewritten(f"{rooms.BEGIN}{rooms.END}", package)
