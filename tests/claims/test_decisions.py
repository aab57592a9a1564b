"""Families and what is said of all claims of a run: known without the run, and without weight in any verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, paired
from statsmodels.stats.multitest import multipletests

from tuneshift.claims.catalogue import findings
from tuneshift.claims.claim_record import claim_record
from tuneshift.claims.decisions import exposure_of, family_size, with_run_wide
from tuneshift.claims.finding import Finding, Outcome, Verdict
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm

RNG = np.random.default_rng(0)
CLAIMS = [paired(RNG.normal(shift, 1.0, size=60), finding=replace(FINDING, id=f"a.{k}", family=f"f.{k % 2}"))
          for k, shift in enumerate((0.8, 0.45, 0.36, 0.05, -0.5))]  # fmt: skip
ABSENT = claim_record(
    replace(FINDING, id="a.absent"), None, Verdict(outcome=Outcome.NOT_APPLICABLE, reason="no sibling"), pair="pair",
    prompts="set", group="all", level=0.95, family_size=1, p_decides=None, expected=None, left_out={},
)  # fmt: skip


def test_the_shipped_families_are_paper_and_section_and_their_sizes_the_catalogues():
    sizes = {f.family: family_size(f, findings()) for f in findings()}
    assert sizes == {
        "wu2023.recognition": 4,
        "wu2023.verbs": 2,
        "wu2023.concepts": 3,
        "hewitt2024.ranking": 4,
        "hewitt2024.following": 5,
        "damage.likelihood": 2,
    }
    assert sum(sizes.values()) == len(findings()) == 20


def test_a_finding_of_ones_own_is_a_family_by_itself_unless_it_names_one():
    alone = Finding(**{**vars(FINDING), "id": "me.first", "family": ""})
    assert (alone.family, family_size(alone, findings())) == ("me.first", 1)
    joined = replace(alone, family="wu2023.verbs")
    assert family_size(joined, findings()) == 2


@pytest.mark.numerics
def test_adjusted_p_and_q_are_over_all_claims_and_the_order_does_not_matter():
    found = with_run_wide(CLAIMS)
    p = [1.0 if c["p_decides"] is None else c["p_decides"] for c in CLAIMS]
    np.testing.assert_allclose([c["adjusted_p"] for c in found], multipletests(p, method="holm")[1])
    np.testing.assert_allclose([c["q"] for c in found], multipletests(p, method="fdr_bh")[1])
    assert with_run_wide(CLAIMS[::-1])[::-1] == found
    assert with_run_wide(found) == found


def test_what_stands_over_the_whole_run_leaves_each_claim_as_it_was():
    for before, after in zip(CLAIMS, with_run_wide(CLAIMS), strict=True):
        assert {**after, "adjusted_p": None, "q": None} == before


def test_claims_that_do_not_apply_do_not_count():
    assert with_run_wide([*CLAIMS, ABSENT]) == [*with_run_wide(CLAIMS), ABSENT]
    assert exposure_of([*CLAIMS, ABSENT], 0.05) == exposure_of(CLAIMS, 0.05)


@pytest.mark.numerics
def test_the_expected_false_decisions_add_up_over_families_and_places():
    sized = [{**c, "family_size": 4 if c["family"] == "f.0" else 2} for c in CLAIMS]
    elsewhere = [{**c, "group": "other"} for c in sized]
    found = exposure_of([*sized, *elsewhere], 0.05)
    assert (found.families, found.claims) == (4, 10)
    assert found.false == pytest.approx(2 * (3 * 0.05 / 4 + 2 * 0.05 / 2))


@pytest.mark.numerics
def test_a_record_from_before_families_counts_each_finding_by_itself():
    old = [{k: v for k, v in c.items() if not k.startswith("family")} for c in CLAIMS]
    assert exposure_of(old, 0.05).false == pytest.approx(5 * 0.05)


def test_false_verdicts_of_a_family_stay_within_alpha():
    # Seven claims whose true effect lies at the sesoi: any verdict is false; 300 runs, binomial error 1.3 points.
    rng, runs, size, wrong = np.random.default_rng(11), 300, 7, 0
    for _ in range(runs):
        decided = []
        for _ in range(size):
            ids = tuple(f"p{i}" for i in range(40))
            base = Arm(label="base", ids=ids, values=np.zeros(40))
            tuned = Arm(label="tuned", ids=ids, values=rng.normal(FINDING.sesoi, 1.0, size=40))
            low, high = paired_difference(base, tuned, clusters=None, level=1 - 0.05 / size).interval
            decided.append(low > FINDING.sesoi or high < FINDING.sesoi)
        wrong += any(decided)
    assert wrong / runs < 0.05 + 3 * 0.0126
