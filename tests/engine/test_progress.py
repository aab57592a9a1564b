"""Lines of progress where there is no terminal: one a minute, however many tasks, however long one item takes."""

from __future__ import annotations

import io
import time

import pytest

from tuneshift.engine.progress import LineBar, bars_on, lines_through


@pytest.mark.parametrize(
    ("done", "counted", "spent", "line"),
    [
        (12, 12, 30.0, "m a: 12 of 348 prompts, 0.4 a second, about 14 min left"),
        (300, 12, 30.0, "m a: 300 of 348 prompts, 0.4 a second, about 2 min left"),
        (340, 20, 10.0, "m a: 340 of 348 prompts, 2 a second, about 4 s left"),
        (1, 1, 100.0, "m a: 1 of 348 prompts, 0.01 a second, about 9.6 h left"),
        (100, 0, 600.0, "m a: 100 of 348 prompts, 10 min so far"),
    ],
)
def test_a_line_names_the_task_how_far_it_is_its_rate_and_what_is_left(done, counted, spent, line):
    bar = LineBar(label="m a", total=348, done=done, unit="prompt", started=5.0, counted=counted)
    assert bar.line(5.0 + spent) == line


def test_updates_count_for_the_rate_and_for_the_whole():
    bar = LineBar(label="m", total=10, done=4, unit="layer", started=0.0)
    bar.update(1)
    bar.update(2)
    assert bar.line(3.0) == "m: 7 of 10 layers, 1 a second, about 3 s left"


def test_a_line_comes_while_a_single_item_takes_long():
    said: list[str] = []
    with lines_through(said.append, every=0.05)("m", 3, 0, "prompt"):
        time.sleep(0.4)
    assert 3 <= len(said) <= 8
    assert said[0] == "m: 0 of 3 prompts, 0 s so far"


def test_short_tasks_one_after_the_other_share_the_time_between_lines():
    said: list[str] = []
    bars = lines_through(said.append, every=0.2)
    for k in range(12):
        with bars(f"task {k}", 1, 0, "prompt") as bar:
            time.sleep(0.05)
            bar.update(1)
    assert 2 <= len(said) <= 4, said
    assert len({line.split(":")[0] for line in said}) == len(said)


def test_a_line_that_was_due_while_nothing_went_on_waits():
    said: list[str] = []
    bars = lines_through(said.append, every=0.6)
    time.sleep(0.7)
    with bars("first", 1, 0, "prompt"):
        pass
    assert said == []
    with bars("second", 1, 0, "prompt"):
        time.sleep(0.3)
    assert len(said) == 1


def test_nothing_is_said_of_work_that_is_soon_over():
    said: list[str] = []
    with lines_through(said.append)("m", 3, 0, "prompt") as bar:
        bar.update(3)
    assert said == []


def test_a_file_gets_lines_and_no_bar(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setitem(lines_through.__kwdefaults__, "every", 0.05)
    stream = io.StringIO()
    with bars_on(stream)("counting one", 5, 2, "prompt"):
        time.sleep(0.3)
    first = stream.getvalue().splitlines()[0]
    assert first == "tuneshift: counting one: 2 of 5 prompts, 0 s so far"
    assert "\r" not in stream.getvalue()
