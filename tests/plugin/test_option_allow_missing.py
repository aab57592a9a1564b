"""``--shift-allow-missing``: a claim of the baseline that this run should make and does not is red, unless allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DENSITY = ("-k", "density_rises or stay_important")


@pytest.fixture
def kept(suites, pytester) -> Path:
    """A baseline of two claims of the tiny pair, called good."""
    suites(*DENSITY, "--shift-save", "good", "--shift-storage", pytester.path / "kept")
    return pytester.path / "kept"


def with_another_claim(kept: Path, finding: str) -> None:
    """The baseline with one more claim, of a finding that nobody ships or of one that the selection leaves out."""
    from tuneshift.plain import digest

    path = kept / "good" / "baseline.json"
    data = json.loads(path.read_text())
    claims = data["record"]["claims"]
    claims.append({**claims[0], "finding": finding})
    data["sha256"] = digest({"record": data["record"], "budget": data["budget"]})
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_what_a_selection_leaves_out_is_named_and_not_red(suites, record, kept, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    compare = ("--shift-compare", "good", "--shift-storage", kept, *workers)
    result = suites("-k", "density_rises", *compare, new_process=bool(workers))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["not asked: 1 claim of the baseline (wu2023.instructions_stay_important on *)"])
    gate = record()["run"]["gate"]
    assert [row["finding"] for row in gate["not_asked"]] == ["wu2023.instructions_stay_important"]
    assert (gate["missing"], gate["red"]) == ([], False)


def test_a_claim_that_does_not_apply_any_more_is_red_unless_allowed(suites, record, kept, monkeypatch):
    from tuneshift.session.run import RunSession

    compare = ("--shift-compare", "good", "--shift-storage", kept)
    gone = {"wu2023.instructions_stay_important"}
    monkeypatch.setattr(
        RunSession, "inapplicable", lambda self, finding, target: "no prompt is left" if finding.id in gone else None
    )
    result = suites(*DENSITY, *compare)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*stay_important*✘ missing",
            "*stay_important, *this run has none: no prompt is left",
            "the gate is red: 1 missing",
        ]
    )
    outcomes = {claim["finding"]: claim["comparison"]["outcome"] for claim in record()["claims"]}
    assert outcomes["wu2023.instructions_stay_important"] == "missing"
    assert record()["run"]["exit_code"] == 1
    result = suites(*DENSITY, *compare, "--shift-allow-missing")
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["no loss beyond its margin in the one claim; 1 missing, which is allowed"])
    # What is allowed is a claim or two, not a gate that compares nothing.
    gone.add("wu2023.instruction_density_rises")
    result = suites(*DENSITY, *compare, "--shift-allow-missing")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["the gate is red: no claim was compared; 2 missing, which is allowed"])


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_a_claim_whose_test_left_none_is_missing(suites, record, kept, pytester, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    pytester.makepyfile(
        skipper="""
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_pyfunc_call(pyfuncitem):
            if "stay_important" in pyfuncitem.name:
                pytest.skip("skipped by somebody's plugin")
            return (yield)
        """
    )
    options = ("--shift-compare", "good", "--shift-storage", kept, "-p", "skipper", *workers)
    result = suites(*DENSITY, *options, new_process=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*stay_important*✘ missing", "*Its test was selected and left no claim."])
    assert record()["run"]["exit_code"] == 1
    assert suites(*DENSITY, *options, "--shift-allow-missing", new_process=True).ret == 0


def test_a_whole_run_lacks_what_its_suites_lost(suites, record, kept):
    with_another_claim(kept, "wu2023.renamed")
    everything = ("--shift-compare", "good", "--shift-storage", kept, "--shift-vocabulary", "40")
    result = suites(*everything, suite="", new_process=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["wu2023.renamed, *: This run, which is no selection, does not make the claim."])
    assert record()["run"]["selection"] is None
