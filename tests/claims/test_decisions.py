"""Holm's procedure over the claims of a run: the decision does not depend on order or on who made the claims."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tuneshift.claims.claim_record import brief, claim_record
from tuneshift.claims.decisions import decide
from tuneshift.claims.finding import Finding, Outcome, Verdict
from tuneshift.claims.verdict import judge
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm, Statistic

FINDING = Finding(
    id="a.b", title="t", claim="c", source="s", direction="greater", unit="u", sesoi=0.05, sesoi_reason="r", how="h",
    needs=(),
)  # fmt: skip


def statistic(effect: float, seed: int, n: int = 60) -> Statistic:
    rng = np.random.default_rng(seed)
    ids = tuple(f"p{i}" for i in range(n))
    noise = rng.normal(size=n)
    noise -= noise.mean()
    base = Arm(label="base", ids=ids, values=np.zeros(n))
    return paired_difference(base, Arm(label="tuned", ids=ids, values=effect + noise), clusters=None, level=0.95)


def claim(effect: float, seed: int = 0, finding: Finding = FINDING, **more):
    found = statistic(effect, seed)
    made = claim_record(
        replace(finding, id=f"{finding.id}{seed}"),
        found,
        judge(finding, found),
        pair="p",
        prompts="set",
        group="all",
        level=0.95,
        expected=None,
        left_out={},
        sensitivity=[brief("otherwise", found, verdict="inconclusive")],
        secondary=[brief("beside", found)],
    )
    return {**made, **more}


EFFECTS = (0.8, 0.45, 0.36, 0.33, 0.05, -0.5, 0.2)
CLAIMS = [claim(effect, k) for k, effect in enumerate(EFFECTS)]


def naive_holm(p: list[float], alpha: float) -> set[int]:
    order, rejected = sorted(range(len(p)), key=lambda k: p[k]), set()
    for rank, k in enumerate(order):
        if p[k] > alpha / (len(p) - rank):
            break
        rejected.add(k)
    return rejected


def test_the_decided_claims_are_holms():
    found = decide(CLAIMS, 0.05)
    p = [1.0 if c["p_decides"] is None else c["p_decides"] for c in found]
    decided = {k for k, c in enumerate(found) if c["verdict"] != "inconclusive"}
    assert decided == naive_holm(p, 0.05)
    assert 0 < len(decided) < len(CLAIMS)
    assert all((c["adjusted_p"] <= 0.05) == (k in decided) for k, c in enumerate(found))


def test_holm_decides_what_equal_shares_would_leave_open():
    alone, many = claim(0.8, 0), [claim(0.9, k) for k in range(1, 12)]
    middle = next(
        e for e in np.arange(0.3, 0.8, 0.005) if decide([claim(e, 0)], 0.05 / 12)[0]["verdict"] == "reproduced"
    )
    narrow = claim(float(middle) - 0.02, 0)
    assert decide([narrow], 0.05 / 12)[0]["verdict"] == "inconclusive"
    assert decide([narrow, *many], 0.05)[0]["verdict"] == "reproduced"
    assert decide([alone], 0.05)[0]["level"] == pytest.approx(0.95)


def test_interval_level_and_verdict_belong_together():
    for made in decide(CLAIMS, 0.05):
        low, high = made["interval"]
        beyond, short = low > 0.05, high < 0.05
        assert made["verdict"] == ("reproduced" if beyond else "contradicted" if short else "inconclusive")
        assert made["sensitivity"][0]["interval"] == made["interval"] == made["secondary"][0]["interval"]
        assert made["sensitivity"][0]["verdict"] == made["verdict"]


def test_the_order_of_claims_does_not_matter():
    backwards = decide(CLAIMS[::-1], 0.05)[::-1]
    assert backwards == decide(CLAIMS, 0.05)


def test_deciding_again_changes_nothing_and_survives_json():
    once = decide(CLAIMS, 0.05)
    assert decide(json.loads(json.dumps(once)), 0.05) == once


def test_shards_decided_together_are_one_run():
    parts = [decide(CLAIMS[:3], 0.05), decide(CLAIMS[3:], 0.05)]
    assert decide([c for part in parts for c in part], 0.05) == decide(CLAIMS, 0.05)
    assert [c for part in parts for c in part] != decide(CLAIMS, 0.05)


def test_claims_that_do_not_apply_take_no_share():
    beside = claim_record(
        FINDING, None, Verdict(outcome=Outcome.NOT_APPLICABLE, reason="no sibling"), pair="p", prompts="set",
        group="all", level=0.95, expected=None, left_out={},
    )  # fmt: skip
    found = decide([*CLAIMS, beside], 0.05)
    assert found[:-1] == decide(CLAIMS, 0.05)
    assert found[-1] == beside


def test_an_effect_below_the_noise_floor_is_not_claimed():
    noise = {"floor": 0.9, "effect": -0.1, "settings": "bfloat16"}
    quiet, noisy = claim(0.8, 0), claim(0.8, 0, noise_floor=noise)
    assert decide([quiet], 0.05)[0]["verdict"] == "reproduced"
    found = decide([noisy], 0.05)[0]
    assert found["verdict"] == "inconclusive"
    assert "noise floor 0.9" in found["reason"]
    assert decide([claim(0.8, 0, noise_floor={**noise, "floor": 0.7})], 0.05)[0]["verdict"] == "reproduced"


def test_false_verdicts_of_a_run_stay_within_alpha():
    # Seven claims whose true effect lies at the sesoi: any verdict is false; 300 runs, binomial error 1.3 points.
    rng, runs, wrong = np.random.default_rng(11), 300, 0
    for _ in range(runs):
        made = []
        for k in range(7):
            ids = tuple(f"p{i}" for i in range(40))
            base = Arm(label="base", ids=ids, values=np.zeros(40))
            tuned = Arm(label="tuned", ids=ids, values=rng.normal(0.05, 1.0, size=40))
            found = paired_difference(base, tuned, clusters=None, level=0.95)
            made.append({**CLAIMS[k], "intervals": found.intervals.plain(), "sensitivity": [], "secondary": []})
        wrong += any(c["verdict"] != "inconclusive" for c in decide(made, 0.05))
    assert wrong / runs < 0.05 + 3 * 0.0126
