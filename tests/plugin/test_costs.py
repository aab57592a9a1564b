"""What measuring cost, where the user sees it: run.json, the report, --durations, and a table under -v."""

from __future__ import annotations

import re

ONE = ("-k", "instructions_stay_important")


def test_measuring_is_in_the_record_in_durations_and_under_v(suites, record, pytester, tmp_path):
    result = suites(*ONE, "-v", "--durations=3", "--durations-min=0.001", store=tmp_path / "store")
    rows = record()["run"]["costs"]
    attributed = [row for row in rows if row["measure"] == "attribution"]
    assert {row["checkpoint"] for row in attributed} == {"tiny-base", "tiny-tuned"}
    assert all(sum(row["paths"].values()) == row["items"] == 20 for row in attributed)
    assert {path for row in attributed for path in row["paths"]} <= {"llama", "generic"}
    spent = sum(row["seconds"] for row in rows)
    setup = re.search(r"([\d.]+)s setup +\S+test_instructions_stay_important", result.stdout.str())
    assert setup
    assert float(setup[1]) >= 0.9 * spent > 0
    result.stdout.fnmatch_lines(
        ["*= tuneshift measuring =*", "* s  attribution of tiny-* on tiny: 20 items (* tokens) by *", "* s in all"]
    )
    report = (pytester.path / "tuneshift-results" / "report.html").read_text()
    assert '<details class="data"><summary>What measuring cost</summary>' in report
    assert report.count('<th scope="row">attribution</th>') == len(attributed)


def test_a_warm_run_and_a_usual_one_show_no_table(suites, record):
    suites(*ONE)
    result = suites(*ONE, "-v")
    assert record()["run"]["costs"] == []
    result.stdout.no_fnmatch_line("*tuneshift measuring*")


def test_two_workers_say_what_they_measured(suites, record, tmp_path):
    result = suites(*ONE, "-n", "2", store=tmp_path / "store")
    assert {row["measure"] for row in record()["run"]["costs"]} == {"loading", "generation", "attribution"}
    result.stdout.no_fnmatch_line("*tuneshift measuring*")
