"""``--shift-templates``: a user's templates come before the report's own."""

from __future__ import annotations

import pytest


def test_a_template_of_the_folder_replaces_its_namesake(suites, pytester):
    folder = pytester.mkdir("mine")
    (folder / "finding.html").write_text("<p>house style: {{ finding.id }}</p>")
    result = suites("-k", "density_rises", "--shift-templates", folder)
    page = (pytester.path / "tuneshift-results" / "report.html").read_text()
    assert "<p>house style: wu2023.instruction_density_rises</p>" in page
    assert 'id="provenance"' in page
    result.stdout.fnmatch_lines(["report: tuneshift-results/report.html"])


@pytest.mark.parametrize(("name", "why"), [("nowhere", "is not there"), ("file", "is not a folder")])
def test_a_folder_that_is_none_is_a_usage_error_before_anything_runs(suites, pytester, name, why):
    (pytester.path / "file").write_text("")
    result = suites("-k", "density_rises", "--shift-templates", pytester.path / name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: The folder of templates *{name} {why}. Name a folder*"])
    assert not (pytester.path / "tuneshift-results").exists()


def test_a_template_that_fails_costs_neither_verdicts_nor_record(suites, pytester, record):
    folder = pytester.mkdir("mine")
    (folder / "claim.html").write_text("{% for %}")
    suites("-k", "density_rises")
    result = suites("-k", "density_rises", "--shift-templates", folder, "--shift-inconclusive", "skip")
    result.stdout.fnmatch_lines(
        [
            "*= tuneshift verdicts =*",
            "record: tuneshift-results/run.json",
            "summary: tuneshift-results/summary.md",
            "tuneshift: A template fails (*claim.html, line 1)*",
        ]
    )
    assert record()["claims"]
    assert result.ret == record()["run"]["exit_code"] == pytest.ExitCode.TESTS_FAILED
    assert not (pytester.path / "tuneshift-results" / "report.html").exists()  # an earlier run's would tell of that one
