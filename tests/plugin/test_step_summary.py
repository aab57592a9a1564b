"""``$GITHUB_STEP_SUMMARY``: the run's Markdown is appended where CI names a file, and trouble there fails nothing."""

from __future__ import annotations

PASS = ("-k", "density_rises", "--shift-inconclusive", "pass")


def test_the_summary_is_appended(suites, pytester, tmp_path, monkeypatch):
    path = tmp_path / "step.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    suites(*PASS)
    summary = (pytester.path / "tuneshift-results" / "summary.md").read_text()
    assert "wu2023.instruction" in summary.replace("\\", "")
    assert path.read_text() == "before\n" + summary


def test_a_file_that_cannot_be_written_is_a_warning_and_no_failure(suites, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = suites(*PASS)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warning: no summary in $GITHUB_STEP_SUMMARY, *: Is a directory", "report: *"])
