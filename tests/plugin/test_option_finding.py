"""``--finding``: the findings that a run decides, by the ids that its tables show."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_ids_and_patterns_choose_and_the_rest_is_deselected(suites, record, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    chosen = ("--finding=wu2023.instruction_density_rises", "--finding", "*.prompt_middle_*")
    result = suites(*chosen, *workers, new_process=bool(workers))
    if not workers:  # xdist counts what its workers deselect nowhere
        result.assert_outcomes(skipped=2, deselected=2)
    assert {claim["finding"] for claim in record()["claims"]} == {
        "wu2023.instruction_density_rises",
        "wu2023.prompt_middle_recovers",
    }


def test_it_narrows_what_other_options_select_and_what_is_planned(suites):
    suites("--finding=wu2023.*", "-k", "density_rises", "--shift-plan").stdout.fnmatch_lines(["1 claim on 1 pair*"])


def test_tests_without_a_finding_are_left_out(suites, pytester):
    pytester.makepyfile("def test_other(): assert False")
    result = suites("--finding=wu2023.instruction_density_rises", "test_other_finding.py", "--shift-plan")
    assert result.ret != 0  # no such file
    name = next(pytester.path.glob("test_*.py")).name
    result = suites("--finding=wu2023.instruction_density_rises", "--collect-only", "-q", name)
    result.stdout.no_fnmatch_line("*test_other*")


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_an_id_that_no_test_has_stops_the_run(suites, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    result = suites("--finding=wu2023.instruction_density_rise", *workers, new_process=bool(workers))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*--finding 'wu2023.instruction_density_rise' names no finding*"
            "did you mean 'wu2023.instruction_density_rises'? known: *"
        ]
    )


def test_a_collection_error_is_shown_and_not_taken_for_a_wrong_id(pytester):
    pytester.makepyfile("import nowhere")
    result = pytester.runpytest("--finding=wu2023.*", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*No module named 'nowhere'*"])


def test_a_users_own_finding_is_known_by_its_id(suites, pytester):
    pytester.makepyfile(
        """
        import pytest
        from tuneshift.suites.test_instruction_recognition import DENSITY_RISES
        from dataclasses import replace

        @pytest.mark.finding(replace(DENSITY_RISES, id="mine.density"))
        def test_mine(claim):
            pass
        """
    )
    name = next(pytester.path.glob("test_*.py")).name
    suites("--finding=mine.*", name, "--shift-plan").stdout.fnmatch_lines(["1 claim on 1 pair*"])
