"""The exit codes of docs/exit-codes.md, each met."""

from __future__ import annotations

import os

import pytest

from tuneshift.cli import main

DENSITY = "density_rises"


def test_zero_where_nothing_fails(suites):
    assert suites("-k", DENSITY).ret == 0


def test_one_where_a_claim_fails(suites):
    assert suites("-k", DENSITY, "--shift-inconclusive", "fail").ret == 1


def test_two_where_the_user_interrupts(suites, pytester, monkeypatch):
    pytester.makepyfile(
        interrupter="""
        from tuneshift.session.run import RunSession

        def interrupt(*given):
            raise KeyboardInterrupt

        RunSession.measure = interrupt
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    assert suites("-k", DENSITY, "-p", "interrupter", new_process=True).ret == 2


def test_four_where_the_input_is_at_fault(suites, tiny_base):
    assert suites(pair=("--base", tiny_base)).ret == 4


def test_five_where_no_test_is_selected(suites):
    assert suites("-k", "no_such_test").ret == 5


def test_the_command_gives_zero_one_two_and_four(tmp_path, capsys, monkeypatch):
    assert main(["evidence", "ls", "--store", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path / "absent.json")]) == 4
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    (tmp_path / "report.html").write_text("")
    assert main(["open", str(tmp_path)]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["no-such-command"])
    assert caught.value.code == 2
    assert main(["evidence", "ls", "--store", str(tmp_path / "absent")]) == 4
