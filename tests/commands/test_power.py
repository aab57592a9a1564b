"""``tuneshift power``."""

from __future__ import annotations

import math

import pytest
from gate_records import claim_with, run_of
from statsmodels.stats.power import TTestPower

from tuneshift.cli import main
from tuneshift.commands.common import OK, USAGE
from tuneshift.run_record import make_record, write_record


def table(capsys):
    """Rows below the header, cells by column position of two or more spaces."""
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]


def needed(distance_in_sd, alpha, power):
    return math.ceil(TTestPower().solve_power(distance_in_sd, None, alpha / 2, power, alternative="larger"))


def test_the_numbers_are_statsmodels(capsys):
    assert main(["power", "--sesoi", "0.1", "--power", "0.8", "--sd", "0.5", "--claims", "5"]) == OK
    assert table(capsys)[0][-1] == str(needed(0.2, 0.05 / 5, 0.8))
    words = ["--sesoi", "0.1", "--power", "0.8", "--sd", "0.5", "--claims", "1", "--alpha", "0.1", "--effect", "0.4"]
    assert main(["power", *words]) == OK
    assert table(capsys)[0][-1] == str(needed(0.6, 0.1, 0.8))


def test_without_a_spread_several_are_shown_and_a_findings_family_shares_the_level(capsys):
    assert main(["power", "--sesoi", "0.1", "--power", "0.9"]) == OK
    out = capsys.readouterr().out
    assert "shared by 1 claim (intervals of coverage 0.95)" in out
    assert "--sd" in out
    assert str(needed(0.1, 0.05, 0.9)) in out  # sd 1
    assert main(["power", "--finding", "wu2023.instruction_density_rises", "--power", "0.9"]) == OK
    out = capsys.readouterr().out
    assert "shared by 4 claims (intervals of coverage 0.9875)" in out
    assert str(needed(0.05, 0.05 / 4, 0.9)) in out


def test_a_runs_claims_are_planned_at_their_own_families_levels(tmp_path, capsys):
    claims = [claim("hewitt2024.tuned_follows", family_size=5), claim("me.own", family_size=1)]
    assert main(["power", "--from", str(write_record(make_record(run_of(), [], claims), tmp_path / "run.json"))]) == OK
    out = capsys.readouterr().out
    assert "shared by 1 claim (intervals of coverage 0.95) or by 5 claims (intervals of coverage 0.99)" in out
    counts = {line.split()[0]: int(line.split()[-1]) for line in out.splitlines() if line.startswith(("me.", "hewitt"))}
    assert counts["hewitt2024.tuned_follows"] > counts["me.own"]


@pytest.mark.numerics
def test_clusters_cost_items(capsys):
    assert main(["power", "--sesoi", "0.1", "--sd", "0.5", "--claims", "1"]) == OK
    alone = int(table(capsys)[0][-1])
    assert (
        main(["power", "--sesoi", "0.1", "--sd", "0.5", "--claims", "1", "--cluster-size", "5", "--icc", "0.5"]) == OK
    )
    together = int(table(capsys)[0][-1])
    assert together % 5 == 0
    assert together / alone == pytest.approx(3, rel=0.05)  # design effect 1 + 4 * 0.5


@pytest.mark.numerics
def test_n_gives_the_effect_that_needs_n(capsys):
    assert main(["power", "--sesoi", "0.1", "--sd", "0.5", "--claims", "1", "--n", "100"]) == OK
    effect = float(table(capsys)[0][-1].removeprefix("an effect of "))
    power = TTestPower().power((effect - 0.1) / 0.5, 100, 0.025, alternative="larger")
    assert power == pytest.approx(0.9, abs=0.005)  # the effect is printed with three digits
    assert main(["power", "--sesoi", "0.1", "--sd", "0.5", "--n", "3"]) == OK
    assert "nothing: an interval takes" in capsys.readouterr().out


def test_other_decisions_assume_no_effect(capsys):
    assert main(["power", "--sesoi", "0.2", "--sd", "0.5", "--claims", "1", "--decision", "noninferior"]) == OK
    assert table(capsys)[0][-1] == str(needed(0.4, 0.05, 0.9))
    assert main(["power", "--sesoi", "0.2", "--sd", "0.5", "--claims", "1", "--decision", "equivalent"]) == OK
    assert table(capsys)[0][-1] == str(needed(0.4, 0.05, 0.95))  # either side is missed with 5 %
    assert main(["power", "--finding", "wu2023.ffn_keeps_linguistic_levels", "--sd", "0.1", "--n", "50"]) == OK
    assert "a margin of" in capsys.readouterr().out


def claim(finding, **fields):
    spread = {"sesoi": 0.05, "standard_error": 0.05, "n": 100, "clusters": 50}
    return claim_with(finding=finding, **{**spread, **fields})


@pytest.fixture
def record(tmp_path):
    claims = [
        claim("hewitt2024.tuned_follows"),
        claim("wu2023.instruction_density_rises", standard_error=None),
        claim("wu2023.lower_layers_gain_most", items="heads"),
        claim("hewitt2024.ranking_survives_tuning", direction="equivalent"),
    ]
    return str(write_record(make_record(run_of(), [], claims), tmp_path / "run.json"))


def test_a_run_lends_its_precision_for_the_claims_that_prompts_can_decide(record, capsys):
    assert main(["power", "--from", record]) == OK
    rows = table(capsys)
    assert [(row[0].split()[0], row[1]) for row in rows] == [
        ("hewitt2024.ranking_survives_tuning", "equivalent"), ("hewitt2024.tuned_follows", "beyond"),
    ]  # fmt: skip
    assert rows[1][4:6] == ["0.5", "2"]  # 0.05 * sqrt(100), two prompts a cluster
    assert main(["power", "--from", record, "--finding", "hewitt2024.tuned_follows", "--sesoi", "0.1"]) == OK
    rows = table(capsys)
    assert len(rows) == 1
    assert rows[0][2] == "0.1"
    assert main(["power", "--from", record, "--finding", "wu2023.density_marks_followed"]) == USAGE
    assert "no claim on prompts" in capsys.readouterr().err


def test_a_claimed_fall_takes_a_negative_effect(tmp_path, capsys):
    path = str(write_record(make_record(run_of(), [], [claim("x.falls", direction="less")]), tmp_path / "run.json"))
    assert main(["power", "--from", path, "--effect", "-0.2"]) == OK
    assert table(capsys)[0][-1].isdigit()
    assert main(["power", "--from", path, "--effect", "0.2"]) == OK
    assert table(capsys)[0][-1].startswith("none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "Say what is to be decided"),
        ("--sesoi 0.1 --power 1", "--power is 1.0"),
        ("--sesoi 0.1 --alpha 0", "--alpha is 0.0"),
        ("--sesoi -1", "--sesoi is -1.0"),
        ("--sesoi nan", "--sesoi is nan"),
        ("--sesoi 0.1 --sd 0", "--sd is 0.0"),
        ("--sesoi 0.1 --claims 0", "--claims is 0"),
        ("--sesoi 0.1 --cluster-size 0", "--cluster-size is 0"),
        ("--sesoi 0.1 --icc 2", "--icc is 2.0"),
        ("--sesoi 0.1 --effect inf", "--effect is inf"),
        ("--sesoi 0.1 --n 0", "--n is 0"),
        ("--from run.json --sd 1", "leave out --sd"),
        ("--finding hewitt2024.tuned_follow", "did you mean 'hewitt2024.tuned_follows'"),
    ],
)
def test_nonsense_is_a_usage_error(words, said, capsys):
    assert main(["power", *words.split()]) == USAGE
    assert said in capsys.readouterr().err


def test_an_effect_at_the_sesoi_is_decided_by_no_number(capsys):
    assert main(["power", "--sesoi", "0.1", "--sd", "0.5", "--effect", "0.1"]) == OK
    assert table(capsys)[0][-1].startswith("none")


def test_a_record_that_is_missing_or_damaged_is_the_inputs_fault(tmp_path, capsys):
    assert main(["power", "--from", str(tmp_path / "none.json")]) == USAGE
    assert "No run record" in capsys.readouterr().err
    damaged = str(write_record(make_record(run_of(), [], [claim("x.y", clusters="many")]), tmp_path / "run.json"))
    assert main(["power", "--from", damaged]) == USAGE
    assert "damaged" in capsys.readouterr().err
