"""``tuneshift merge``: shards of one run equal the one run, and what is no shard of it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record

from tuneshift.cli import main
from tuneshift.commands.common import OK, USAGE
from tuneshift.errors import UsageError
from tuneshift.gate.compare import compare
from tuneshift.gate.look import gate_summary
from tuneshift.gate.shards import merge
from tuneshift.run_record import write_record

NAMES = ("a/run.json", "b/run.json")
RNG = np.random.default_rng(0)
CLAIMS = [paired(RNG.normal(shift, 0.4, size=60), finding=replace(FINDING, id=f"a.{k}"))
          for k, shift in enumerate((0.26, 0.24, 0.0, 0.22, 0.5))]  # fmt: skip
PAIRS = [pair_of(ids(60))]


def merged(*records):
    return merge(records, NAMES, command="merge")


@pytest.mark.numerics
def test_adjusted_p_is_of_the_union_and_all_else_of_a_claim_stays():
    one = record(CLAIMS, PAIRS)
    shards = record(CLAIMS[:2], PAIRS), record(CLAIMS[2:], PAIRS)
    assert shards[0].claims[0]["adjusted_p"] != one.claims[0]["adjusted_p"]
    assert merged(*shards).claims == one.claims == merged(*shards[::-1]).claims
    assert (merged(*shards).run["families"], merged(*shards).run["confirmatory_claims"]) == (1, 5)
    assert merged(*shards).run["false_decisions_at_most"] == pytest.approx(5 * 0.05)


def test_a_claim_that_both_hold_counts_once():
    one = record(CLAIMS, PAIRS)
    assert merged(record(CLAIMS[:3], PAIRS), record(CLAIMS[2:], PAIRS)).claims == one.claims


def test_comparisons_stay_as_they_are():
    def against(run):
        claims = compare(run.claims, run.pairs, baseline, name="good", margins={}, alpha=0.05)
        return replace(run, claims=claims)

    base = [paired(RNG.normal(0.2, 0.4, size=60), finding=replace(FINDING, id=f"a.{k}")) for k in range(5)]
    baseline = record(base, PAIRS)
    described = {"name": "good", "saved": "s", "alpha": 0.05}
    one = against(record(CLAIMS, PAIRS, baseline=described))
    shards = [against(record(part, PAIRS, baseline=described)) for part in (CLAIMS[:2], CLAIMS[2:])]
    assert shards[0].claims[0]["comparison"] == one.claims[0]["comparison"]
    assert merged(*shards).claims == one.claims


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record(CLAIMS[2:], PAIRS, alpha=0.1), r"differ in alpha \(0\.05 and 0\.1\)"),
        (record(CLAIMS[2:], PAIRS, versions={"tuneshift": "2"}), "differ in versions"),
        (record(CLAIMS[2:], PAIRS, measures={"generation": 2}), "differ in measures"),
        (record(CLAIMS[2:], [pair_of(ids(60), tuned="other")]), r"'pair' is not the same in a/run.json and b.*tuned"),
        (record([paired(np.zeros(60), finding=replace(FINDING, id="a.1"))], PAIRS), r"a\.1 on pair, set, all is not"),
    ],
)  # fmt: skip
def test_what_is_no_shard_of_the_run_is_refused(other, message):
    with pytest.raises(UsageError, match=message):
        merged(record(CLAIMS[:2], PAIRS), other)


def test_the_command_writes_record_and_report_and_one_record_is_none_to_merge(tmp_path, capsys):
    paths = [str(write_record(record(part, PAIRS), tmp_path / f"{k}" / "run.json"))
             for k, part in enumerate((CLAIMS[:2], CLAIMS[2:]))]  # fmt: skip
    out = tmp_path / "all"
    assert main(["merge", *paths, "-o", str(out)]) == OK
    assert len(json.loads((out / "run.json").read_text())["claims"]) == 5
    assert (out / "report.html").is_file()
    assert main(["merge", paths[0], "-o", str(out)]) == USAGE
    assert main(["merge", paths[0], str(tmp_path / "none.json"), "-o", str(out)]) == USAGE
    assert "No run record" in capsys.readouterr().err


def test_what_no_shard_asked_is_missing_and_what_each_asked_is_not():
    def row(finding):
        return {"finding": finding, "pair": "pair", "prompts": "set", "group": "all", "effect": 0.3, "unit": "u",
                "reason": "Its test was not selected."}  # fmt: skip

    described = {"name": "good", "saved": "s", "alpha": 0.05}
    shards = []
    for part, left in ((CLAIMS[:2], ("a.2", "a.3", "a.4", "a.lost")), (CLAIMS[2:], ("a.0", "a.1", "a.lost"))):
        baseline = record(CLAIMS, PAIRS)
        shard = record(part, PAIRS, baseline=described)
        compared = compare(shard.claims, PAIRS, baseline, name="good", margins={}, alpha=0.05)
        gate = gate_summary(compared, [], [row(finding) for finding in left], None, allow_missing=False)
        assert not gate["red"]
        shards.append(replace(shard, claims=compared, run={**shard.run, "gate": gate, "selection": []}))
    run = merged(*shards).run
    assert [absent["finding"] for absent in run["gate"]["missing"]] == ["a.lost"]
    assert run["gate"]["missing"][0]["reason"] == "No shard asked it."
    assert (run["gate"]["red"], run["gate"]["not_asked"], run["selection"]) == (True, [], None)
