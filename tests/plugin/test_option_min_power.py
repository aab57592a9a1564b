"""``--shift-min-power``: a comparison that would not see a loss of the size asked for is a mistake of its user."""

from __future__ import annotations

import pytest

DENSITY = ("-k", "density_rises")
FINDING = "wu2023.instruction_density_rises"


def test_a_gate_that_sees_too_little_stops_before_it_measures(suites, record, pytester):
    kept = ("--shift-storage", pytester.path / "kept")
    saved = suites(*DENSITY, "--shift-save", "good", *kept)
    saved.stdout.fnmatch_lines(
        [f"baseline good: what it can see: a loss of at least * in {FINDING} (* margins) would be red in 80 % *"]
    )
    compare = ("--shift-compare", "good", *kept)
    fresh = pytester.path / "empty"
    for least, said in (("1", "1 margins"), (f"{FINDING}=0.01", "0.01 score")):
        result = suites(*DENSITY, *compare, f"--shift-min-power={least}", store=fresh)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*--shift-min-power asks that a loss of {said} in {FINDING} would be red*"])
    assert not list(fresh.rglob("*.safetensors"))
    for least in ("20", f"{FINDING}=0.9"):
        assert suites(*DENSITY, *compare, f"--shift-min-power={least}").ret == 0


def test_a_comparison_that_saw_less_than_planned_is_not_green(suites, record, pytester, monkeypatch):
    kept = ("--shift-storage", pytester.path / "kept")
    suites(*DENSITY, "--shift-save", "good", *kept)
    monkeypatch.setattr("tuneshift.session.gating.planned_losses", lambda *_args, **_more: [])  # as if all were seen
    result = suites(*DENSITY, "--shift-compare", "good", *kept, "--shift-min-power=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert record()["run"]["exit_code"] == 4
    result.stdout.fnmatch_lines(["tuneshift: --shift-min-power asks that a loss of 1 margins in *, no smaller one*"])


@pytest.mark.parametrize("least", ["0", "x", f"{FINDING}=", "-1", f"{FINDING}=inf"])
def test_a_loss_that_is_none_is_a_usage_error(suites, least):
    result = suites(*DENSITY, "--shift-compare", "good", f"--shift-min-power={least}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--shift-min-power * write a number of margins above 0, as 2, or FINDING=LOSS*"])


def test_without_a_baseline_there_is_nothing_to_see(suites):
    result = suites(*DENSITY, "--shift-min-power=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--shift-min-power belongs to --shift-compare=NAME*"])
