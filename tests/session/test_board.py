"""What workers tell the controller: whole lines once each, the claim that one was at, and nothing left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tuneshift.session.board import Board, WorkerBoard
from tuneshift.session.fields import BOARD

PLACE = {"finding": "a.b", "pair": "p", "prompts": "s", "group": "all"}


@pytest.fixture
def board():
    made = Board()
    yield made
    made.close()


def worker(board: Board, name: str) -> WorkerBoard:
    return WorkerBoard.of({BOARD: str(board.folder), "workerid": name})


def test_lines_come_once_each_with_their_worker(board):
    one, two = worker(board, "gw0"), worker(board, "gw1")
    one.say("first")
    two.say("other, with ümlauts")
    assert board.lines() == ["[gw0] first", "[gw1] other, with ümlauts"]
    assert board.lines() == []
    one.say("second")
    one.say("third")
    assert board.lines() == ["[gw0] second", "[gw0] third"]


def test_half_a_line_waits_for_its_other_half(board):
    path = board.folder / "gw0.log"
    path.write_text("whole\nhal")
    assert board.lines() == ["[gw0] whole"]
    with path.open("a") as file:
        file.write("f\n")
    assert board.lines() == ["[gw0] half"]


def test_the_claim_that_a_worker_is_at_is_found_by_its_test(board):
    one, two = worker(board, "gw0"), worker(board, "gw1")
    one.begin("suites/t.py::test_a[pair:p]", PLACE)
    two.begin("suites/t.py::test_b[pair:p]", {**PLACE, "finding": "c.d"})
    assert board.place_of("suites/t.py::test_a[pair:p]") == PLACE
    one.begin("suites/t.py::test_c[pair:p]", {**PLACE, "finding": "e.f"})
    assert board.place_of("suites/t.py::test_a[pair:p]") is None
    assert board.place_of("suites/t.py::test_c[pair:p]") == {**PLACE, "finding": "e.f"}
    (board.folder / "gw1.json").write_text("{")
    assert board.place_of("suites/t.py::test_b[pair:p]") is None


def test_what_workers_say_is_passed_on_while_they_work(board):
    said: list[str] = []
    board.follow(said.append, every=0.02)
    worker(board, "gw0").say("line")
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
        time.sleep(0.02)
    assert said == ["[gw0] line"]


def test_closing_leaves_nothing():
    board = Board()
    board.follow(print)
    worker(board, "gw0").begin("t", PLACE)
    board.close()
    assert not board.folder.exists()


def test_a_worker_that_does_not_see_the_folder_tells_nothing_and_goes_on():
    away = WorkerBoard(folder=Path("/nonexistent/of/another/machine"), worker="gw0")
    away.say("line")
    away.begin("t", PLACE)
    WorkerBoard.of({}).say("line")
    WorkerBoard.of({}).begin("t", PLACE)
    assert not away.folder.exists()
