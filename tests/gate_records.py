"""Run records for tests of the gate: two arms on the same prompts, by chosen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tuneshift.claims.claim_record import claim_record
from tuneshift.claims.decisions import with_run_wide
from tuneshift.claims.finding import Finding
from tuneshift.claims.verdict import deciding_error, judge
from tuneshift.plain import digest
from tuneshift.run_record import RunRecord, make_record
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm, Statistic

FINDING = Finding(
    id="a.first", title="t", claim="c", source="s", direction="greater", unit="u", sesoi=0.1, sesoi_reason="r", how="h",
    needs=(("tuned", "generation"),),
)  # fmt: skip
MEASURES = {"generation": 1, "attribution": 1}
SETTINGS = {"response": "own", "dtype": "float32", "judges": [], "rules": "hewitt2024", "annotator": "embedding"}


def ids(n: int) -> tuple[str, ...]:
    return tuple(f"p{k:03}" for k in range(n))


def claim(finding: Finding, statistic: Statistic, pair: str = "pair", evidence=None):
    return claim_record(
        finding, statistic, judge(finding, statistic), pair=pair, prompts="set", group="all", level=0.95, family_size=1,
        p_decides=deciding_error(finding, statistic.intervals), expected=None, left_out={}, evidence=evidence or {},
    )  # fmt: skip


def paired(
    tuned: Sequence[float],
    *,
    finding: Finding = FINDING,
    names: Sequence[str] | None = None,
    pair="pair",
    span=None,
    evidence=None,
):
    """A claim whose base arm is all 0."""
    at = tuple(names or ids(len(tuned)))
    base = Arm(label="base", ids=at, values=np.zeros(len(at)), span=span)
    found = paired_difference(base, replace(base, label="tuned", values=np.array(tuned)), clusters=None, level=0.95)
    return claim(finding, found, pair, evidence)


def items(names: Sequence[str], texts: Sequence[str] | None = None, clusters: Sequence[str] | None = None):
    hashes = [digest(text)[:16] for text in texts or names]
    units = list(clusters or names)
    return {"ids": list(names), "sha256": hashes, "clusters": units, "topics": units}


def pair_of(names: Sequence[str], *, tuned: str = "tuned", base: str = "base", pair: str = "pair", **more):
    prompts = {"name": "set", "n": len(names), "sha256": "x", "items": items(names, **more)}
    side = {"dtype": "float32", "chat_template": "{{ m }}"}
    return {
        "name": pair,
        "base": {"name": base, "fingerprint": base * 8, **side},
        "tuned": {"name": tuned, "fingerprint": tuned * 8, **side},
        "settings": {"max_new_tokens": 100},
        "prompts": [prompts],
    }


def run_of(**more):
    return {
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "duration_s": 60.0,
        "versions": {"tuneshift": "1"}, "alpha": 0.05, "response": "own", "measures": MEASURES, "settings": SETTINGS,
        "command": "pytest suites", "exit_code": 0, "baseline": None, **more,
    }  # fmt: skip


def record(claims, pairs, **run) -> RunRecord:
    decided = with_run_wide([{**claim, "examples": []} for claim in claims])
    return make_record(run_of(**run), pairs, decided)


def claim_with(**fields):
    """A claim with all that a record's reader asks of one, and these fields."""
    whole = with_run_wide([{**paired([0.4, 0.5, 0.6]), "examples": []}])[0]
    return {**whole, **fields}
