"""Lines while tests run: past a capture that takes the file away, and none on a terminal."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from tuneshift.engine.progress import lines_through, silent_bars
from tuneshift.session.waiting import lines_past_capture


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lines_through.__kwdefaults__, "every", 0.02)


def test_lines_go_where_the_stream_went_when_the_run_began(tmp_path: Path) -> None:
    before, during, ends = tmp_path / "before", tmp_path / "during", []
    with before.open("w") as stream, during.open("w") as captured:
        bars = lines_past_capture(stream, ends.append)
        os.dup2(captured.fileno(), stream.fileno())  # as pytest captures a test's output
        with bars("deciding x on y", 0, 0, "claim"):
            time.sleep(0.2)
        for end in ends:
            end()
        assert before.read_text().startswith("tuneshift: deciding x on y, 0 s so far\n")
        assert during.read_text() == ""
        with bars("deciding x on y", 0, 0, "claim"):
            time.sleep(0.1)  # a file that was closed is no reason to fail


def test_a_stream_without_a_file_is_written_to_itself() -> None:
    stream = io.StringIO()
    with lines_past_capture(stream, lambda end: None)("deciding x on y", 0, 0, "claim"):
        time.sleep(0.2)
    assert stream.getvalue().startswith("tuneshift: deciding x on y, 0 s so far\n")


def test_a_terminal_has_pytests_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    assert lines_past_capture(stream, lambda end: None) is silent_bars
