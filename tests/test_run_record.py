"""The run record: plain types, whole files, clear refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gate_records import claim_with, run_of

from tuneshift.claims.claim_record import claim_record, flat_properties
from tuneshift.claims.finding import Finding, Outcome, Verdict
from tuneshift.errors import RecordError
from tuneshift.plain import plain
from tuneshift.run_record import make_record, read_record, write_record
from tuneshift.statistics.intervals import StudentT
from tuneshift.statistics.statistic import Arm, Statistic

FINDING = Finding(
    id="who2024.what",
    title="t",
    claim="c",
    source="s",
    direction="greater",
    unit="score",
    sesoi=0.05,
    sesoi_reason="r",
    how="h",
    needs=(("base", "attribution"),),
)


def statistic(effect: float = 0.2) -> Statistic:
    arms = tuple(Arm(label=k, ids=("a", "b"), values=np.array([0.1, x])) for k, x in (("base", 0.2), ("tuned", 0.4)))
    return Statistic(
        effect=effect,
        interval=(0.1, 0.3),
        level=0.95,
        p=0.01,
        n=2,
        clusters=2,
        standard_error=0.05,
        method="m",
        seed=None,
        arms=arms,
        intervals=StudentT(effect=effect, error=0.05, freedom=10.0, units=11.0),
    )


def claim(**changes):
    made = claim_record(
        FINDING,
        statistic(),
        Verdict(outcome=Outcome.REPRODUCED, reason="because"),
        pair="p",
        prompts="set",
        group="all",
        level=0.95,
        family_size=4,
        p_decides=0.002,
        expected=None,
        left_out={"too long": 3},
    )
    return {**made, **changes}


def test_plain_unwraps_numpy_and_turns_nan_into_none():
    made = plain({"a": np.float32(1.5), "b": np.array([1, 2]), "c": float("nan"), 4: (Outcome.REPRODUCED,)})
    assert made == {"a": 1.5, "b": [1, 2], "c": None, "4": ["reproduced"]}
    assert type(made["a"]) is float
    assert type(made["c"]) is type(None)


def test_plain_refuses_what_json_cannot_hold():
    with pytest.raises(TypeError, match="set"):
        plain({1, 2})


@pytest.mark.numerics
def test_a_claim_holds_what_the_schema_names_as_plain_types():
    made = claim()
    json.dumps(made, allow_nan=False)
    for name in (
        "finding",
        "pair",
        "group",
        "n",
        "base",
        "tuned",
        "effect",
        "interval",
        "level",
        "p",
        "method",
        "seed",
        "sesoi",
        "verdict",
        "expected",
        "source",
    ):
        assert name in made
    assert made["base"] == {"label": "base", "mean": pytest.approx(0.15), "sd": pytest.approx(0.05), "n": 2}
    assert made["values"]["tuned"] == {"ids": ["a", "b"], "x": [0.1, 0.4], "span": None}


def test_a_claim_without_statistic_is_complete_and_empty():
    made = claim_record(
        FINDING,
        None,
        Verdict(outcome=Outcome.NOT_APPLICABLE, reason="no labels"),
        pair="p",
        prompts="s",
        group="g",
        level=0.99,
        family_size=1,
        p_decides=None,
        expected=None,
        left_out={},
    )
    assert (made["effect"], made["interval"], made["n"], made["level"]) == (None, [None, None], 0, 0.99)
    assert made.keys() == claim().keys()


@pytest.mark.numerics
def test_junit_properties_are_scalars():
    flat = dict(flat_properties(claim()))
    assert flat["tuneshift.verdict"] == "reproduced"
    assert flat["tuneshift.interval_low"] == 0.1
    assert flat["tuneshift.tuned.mean"] == pytest.approx(0.25)
    assert all(not isinstance(value, (list, dict)) for value in flat.values())


def test_a_record_survives_the_disk_and_its_order_is_fixed(tmp_path):
    claims = [claim(finding=f, examples=[{"id": f}]) for f in ("b", "a")]
    side = {"name": "m", "fingerprint": "f"}
    pairs = [{"name": "p", "base": side, "tuned": side, "prompts": []}]
    record = make_record({"alpha": 0.05}, pairs, claims)
    again = read_record(write_record(record, tmp_path / "deep" / "run.json"))
    assert [c["finding"] for c in again.claims] == ["a", "b"]
    assert [e["id"] for e in again.examples] == ["a", "b"]
    assert again == make_record({"alpha": 0.05}, pairs, list(reversed(claims)))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read: not JSON"),
        ("[]", "is not a run record"),
        ('{"schema": 99, "claims": []}', "has schema 99, this tuneshift reads 1"),
        ('{"schema": 1, "claims": []}', "lacks run and pairs"),
    ],
)
def test_foreign_and_damaged_records_are_refused(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=message):
        read_record(path)


def test_a_missing_record_says_what_writes_one(tmp_path):
    with pytest.raises(RecordError, match="pytest suites"):
        read_record(tmp_path / "none.json")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        write_record(make_record({}, [], []), tmp_path / "file" / "run.json")


def test_junit_properties_hold_what_the_run_decided_by():
    made = claim(
        noise_floor={"floor": 0.02, "effect": 0.1, "settings": "bfloat16 instead of float32"},
        comparison={"outcome": "held"},
    )
    flat = dict(flat_properties(made))
    for name, value in (("family", "who2024.what"), ("family_size", 4), ("p_decides", 0.002)):
        assert flat[f"tuneshift.{name}"] == made[name] == value
    assert not {"tuneshift.adjusted_p", "tuneshift.q"} & set(flat)  # they rest on the run's other claims
    assert flat["tuneshift.noise_floor"] == 0.02
    assert flat["tuneshift.comparison"] == "held"


def test_the_verdicts_that_a_record_may_hold_are_the_outcomes():
    from tuneshift.claims.finding import Outcome
    from tuneshift.record_fields import VERDICTS

    assert tuple(Outcome) == VERDICTS


def error(message, finding="f", pair="p"):
    return {"finding": finding, "pair": pair, "prompts": "s", "group": "all", "message": message}


def test_errors_are_of_claims_that_were_not_made_and_the_last_of_each(tmp_path):
    claimed = claim_with(finding="f", pair="p", prompts="s", group="all")
    again = [error("first", "g"), error("second", "g"), error("retried", "f"), error("other", "g", "q")]
    made = make_record(run_of(), [], [claimed], again)
    assert [(e["pair"], e["finding"], e["message"]) for e in made.errors] == [("p", "g", "second"), ("q", "g", "other")]
    assert read_record(write_record(made, tmp_path / "run.json")).errors == made.errors
