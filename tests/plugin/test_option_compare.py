"""``--shift-compare``: the comparison with a baseline decides the test, and what cannot be compared stops the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneshift.cli import main

DENSITY = ("-k", "density_rises")


@pytest.fixture
def kept(suites, pytester) -> Path:
    """A baseline of the tiny pair, called good, whose one verdict is inconclusive."""
    suites(*DENSITY, "--shift-save", "good", "--shift-storage", pytester.path / "kept")
    return pytester.path / "kept"


@pytest.fixture
def other_pair(make_checkpoint, tiny_base, tiny_prompts):
    """The tiny base with another tuned checkpoint."""
    pair = ("--base", tiny_base, "--tuned", make_checkpoint("tiny-next", seed=10))
    return (*pair, "--shift-prompts", tiny_prompts)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_what_held_passes_whatever_its_verdict(suites, record, kept, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    compare = ("--shift-compare", "good", "--shift-storage", kept)
    result = suites(*DENSITY, *compare, *workers, new_process=bool(workers))
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*tuneshift against baseline good*",
            "*density_rises*= held (same evidence)",
            "what it can see: a loss of * would be red in 80 % of runs*",
            "no loss beyond its margin in the one claim",
            "1 held; baseline saved *",
        ]
    )
    claim = record()["claims"][0]
    assert (claim["verdict"], claim["comparison"]["outcome"]) == ("inconclusive", "held")
    assert record()["run"]["baseline"]["name"] == "good"


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_a_regression_fails_with_baseline_change_and_margin(suites, record, kept, other_pair, workers):
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    path = kept / "good" / "baseline.json"
    raise_baseline(path, by=2.0)
    compare = ("--shift-compare", "good", "--shift-storage", kept)
    result = suites(*DENSITY, *compare, *workers, pair=other_pair, new_process=bool(workers))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "wu2023.instruction_density_rises: regressed against baseline good on *",
            "  change: -* (n = 20, 95 % interval, p = *)",
            "  margin: -0.05",
            "  reason: The interval of the change, *, lies wholly past the margin -0.05.",
            "  verdict of this run by itself: *",
        ]
    )
    assert record()["claims"][0]["comparison"]["outcome"] == "regressed"


def raise_baseline(path: Path, *, by: float) -> None:
    """Lift the tuned values and the effect of a baseline, as if it had been a better checkpoint."""
    from tuneshift.plain import digest

    data = json.loads(path.read_text())
    claim = data["record"]["claims"][0]
    claim["effect"] += by
    claim["values"]["tuned"]["x"] = [x + by for x in claim["values"]["tuned"]["x"]]
    data["sha256"] = digest({"record": data["record"], "budget": data["budget"]})
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(("option", "outcome", "code"), [("fail", "failed", 1), ("pass", "passed", 0)])
def test_a_comparison_that_cannot_say_is_yellow_unless_asked_otherwise(
    suites, kept, other_pair, record, pytester, monkeypatch, option, outcome, code
):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("COLUMNS", "200")
    raise_baseline(kept / "good" / "baseline.json", by=0.35)  # to where the other checkpoint is
    margin = ("--shift-margin", "wu2023.instruction_density_rises=0.05")
    compare = ("--shift-compare", "good", "--shift-storage", kept, *margin)
    asked = () if option == "pass" else ("--shift-gate-inconclusive", option)
    result = suites(*DENSITY, *compare, *asked, "--shift-inconclusive", "fail", pair=other_pair)
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == code
    result.stdout.fnmatch_lines(
        [
            "*density_rises*-0.05 *? inconclusive",
            "*A fresh set of * prompts * would decide it in four of five cases.",
            "what it can see: a loss of * in wu2023.instruction_density_rises (* margins) would be red in 80 % *",
            "no loss shown; 1 claim cannot say",
            "::warning title=tuneshift gate::no loss shown; 1 claim cannot say. what it can see: * 80 %25 of *",
        ]
    )
    assert "no loss shown; 1 claim cannot say" in record()["run"]["gate"]["conclusion"]
    summary = (pytester.path / "tuneshift-results" / "summary.md").read_text()
    assert "No loss shown; 1 claim cannot say." in summary


def test_the_files_alone_give_the_same_comparison(suites, record, kept, other_pair, pytester, capsys):
    compare = ("--shift-compare", "good", "--shift-storage", kept)
    suites(*DENSITY, *compare, pair=other_pair)
    made = record()["claims"][0]["comparison"]
    code = main(["gate", "tuneshift-results/run.json", "--baseline", "good", "--storage", str(kept), "-o", "gated"])
    again = json.loads((pytester.path / "gated" / "run.json").read_text())
    assert again["claims"][0]["comparison"] == made
    assert again["run"]["baseline"] == record()["run"]["baseline"]
    assert again["run"]["gate"] == record()["run"]["gate"]
    assert code == (1 if made["outcome"] in ("regressed", "worse") else 0)
    assert "against baseline good" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.unlink(), "*There is no baseline 'good'*"),
        (lambda p: p.write_text("{"), "*is damaged: not JSON*"),
        (lambda p: p.write_text("{}"), "*is not a baseline of tuneshift*"),
        (lambda p: p.write_text(p.read_text().replace('"format":1', '"format":7')), "*has format 7*"),
    ],
)
def test_an_unusable_baseline_stops_the_run_before_it_measures(suites, kept, pytester, change, message):
    change(kept / "good" / "baseline.json")
    fresh = pytester.path / "empty"
    result = suites(*DENSITY, "--shift-compare", "good", "--shift-storage", kept, store=fresh)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not list(fresh.rglob("*.safetensors"))


def test_another_base_other_prompts_and_another_response_are_named(
    suites, kept, make_checkpoint, tiny_tuned, tiny_prompts, tmp_path
):
    rows = [json.loads(line) for line in tiny_prompts.read_text().splitlines()]
    for row in rows:
        row["reference"] = "other"
    prompts = tmp_path / "other.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = make_checkpoint("tiny-base-two", seed=31)
    result = suites(
        *DENSITY, "--shift-compare", "good", "--shift-storage", kept,
        pair=("--base", base, "--tuned", tiny_tuned, "--shift-prompts", prompts),
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*differ in the base checkpoint (tiny-base-two *the prompts: no item is the same*"])
    result = suites(*DENSITY, "--shift-compare", "good", "--shift-storage", kept, "--shift-response", "tuned")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*response (tuned here, own there; --shift-response)*"])


@pytest.mark.parametrize("margin", ["0.1", "wu2023.instruction_density_rises=x", "wu2023.instruction_density_rises=-1"])
def test_a_margin_that_is_none_is_a_usage_error(suites, kept, margin):
    result = suites(*DENSITY, "--shift-compare", "good", "--shift-storage", kept, "--shift-margin", margin)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--shift-margin * write FINDING=VALUE*"])


def test_looks_are_spent_once_a_run_and_then_the_run_stops_first(suites, kept, other_pair, record, pytester):
    suites(*DENSITY)
    bless = ["bless", "tuneshift-results/run.json", "--as", "nightly", "--storage", str(kept), "--looks", "1"]
    assert main(bless) == 0
    assert main(bless) == 4
    compare = ("--shift-compare", "nightly", "--shift-storage", kept)
    suites(*DENSITY, *compare, pair=other_pair)
    assert record()["run"]["baseline"]["look"] == 1
    assert main(["gate", "tuneshift-results/run.json", "--baseline", "nightly", "--storage", str(kept)]) in (0, 1)
    result = suites(*DENSITY, *compare, pair=other_pair)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*The one look at baseline 'nightly' is taken*"])


@pytest.mark.numerics
@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)])
def test_a_run_takes_one_look_however_many_claims_and_workers_and_none_without_a_claim(
    suites, kept, other_pair, record, pytester, workers
):
    suites()
    bless = ["bless", "tuneshift-results/run.json", "--as", "nightly", "--storage", str(kept), "--looks", "3"]
    assert main(bless) == 0
    compare = ("--shift-compare", "nightly", "--shift-storage", kept)
    suites("-k", "no_such_test", *compare, *workers, pair=other_pair)
    assert not looks_taken(kept)
    suites(*compare, *workers, pair=other_pair)
    assert len(looks_taken(kept)) == 1
    made = record()
    against = [claim["comparison"]["against"] for claim in made["claims"]]
    assert against == [made["run"]["baseline"]] * 4
    assert (against[0]["look"], against[0]["looks"]) == (1, 3)
    (level,) = {c["comparison"]["level"] for c in made["claims"]} - {None}
    assert level == pytest.approx(1 - 0.05 / 3 / against[0]["claims"])
    suites(*compare, *workers, pair=other_pair)
    assert len(looks_taken(kept)) == 1  # the same values again


def test_a_run_whose_record_is_not_written_spends_no_look(suites, kept, other_pair, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    suites(*DENSITY)
    bless = ["bless", "tuneshift-results/run.json", "--as", "nightly", "--storage", str(kept), "--looks", "3",
             "--spending", "obrien-fleming"]  # fmt: skip
    assert main(bless) == 0
    compare = ("--shift-compare", "nightly", "--shift-storage", kept)
    with monkeypatch.context() as patched:
        patched.setattr("tuneshift.session.console.publish_all", full)
        result = suites(*DENSITY, *compare, pair=other_pair)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["tuneshift: nothing was written to *No space left on device"])
    assert not looks_taken(kept)
    suites(*DENSITY, *compare, pair=other_pair)
    assert len(looks_taken(kept)) == 1


def looks_taken(kept: Path) -> list[str]:
    path = kept / "nightly" / "looks.json"
    return json.loads(path.read_text())["taken"] if path.exists() else []


def test_the_gate_names_a_family_that_has_another_size(suites, kept):
    from tuneshift.plain import digest

    path = kept / "good" / "baseline.json"
    data = json.loads(path.read_text())
    data["record"]["claims"][0]["family_size"] = 3
    data["sha256"] = digest({"record": data["record"], "budget": data["budget"]})
    path.write_text(json.dumps(data))
    result = suites(*DENSITY, "--shift-compare", "good", "--shift-storage", kept)
    result.stdout.fnmatch_lines(["family wu2023.recognition has 4 findings here and had 3 in the baseline: *"])
