"""``--shift-out``: where the record and the report go."""

from __future__ import annotations

import json


def test_all_files_land_in_the_named_folder(suites, pytester):
    result = suites("-k", "density_rises", "--shift-out", "results/today")
    folder = pytester.path / "results" / "today"
    assert json.loads((folder / "run.json").read_text())["schema"] == 1
    page = (folder / "report.html").read_text()
    assert "wu2023.instruction_density_rises" in page
    summary = (folder / "summary.md").read_text()
    assert "| wu2023.instruction_density_rises |" in summary
    written = (
        "record: results/today/run.json",
        "summary: results/today/summary.md",
        "report: results/today/report.html",
    )
    result.stdout.fnmatch_lines(written, consecutive=True)


def test_a_folder_that_cannot_be_written_is_said_and_the_verdicts_still_show(suites, pytester):
    (pytester.path / "taken").write_text("")
    result = suites("-k", "density_rises", "--shift-out", "taken")
    result.stdout.fnmatch_lines(["*= tuneshift verdicts =*", "tuneshift: *cannot be written to taken/run.json*"])
