"""Damaged files of a store, a baseline and a run record: each mutant is a clear error or is measured again, none is
believed and none is a traceback. Seeds are fixed; tests/campaign.py tries a thousand."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import mutants
import pytest
from hostile_values import effort

from tuneshift.errors import RecordError
from tuneshift.run_record import read_record, write_record


def test_damaged_evidence_is_an_error_and_then_measured_again(tmp_path: Path) -> None:
    tries = effort(40)
    outcomes = Counter(mutants.of_evidence(random.Random(seed), tmp_path / str(seed)) for seed in range(tries))
    assert outcomes["refused"] > 0.7 * tries
    assert outcomes["left"] < 0.1 * tries


def test_a_damaged_baseline_is_never_compared_with(tmp_path: Path) -> None:
    tries = effort(60)
    outcomes = Counter(mutants.of_baseline(random.Random(seed), tmp_path / str(seed)) for seed in range(tries))
    assert outcomes["refused"] > 0.6 * tries


@pytest.mark.parametrize("command", mutants.COMMANDS)
def test_a_damaged_record_is_refused_in_words(command: str, tmp_path: Path) -> None:
    tries = effort({"report": 8, "merge": 12}.get(command, 30))
    codes: Counter[int] = Counter()
    for seed in range(tries):
        folder = tmp_path / str(seed)
        folder.mkdir()
        codes[mutants.of_record(command, random.Random(seed), folder)] += 1
    assert codes[mutants.USAGE] + codes[1] > 0.2 * tries


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("claims", 0, "finding"), r"`claims` \[0\] `finding` 'a\\n::error::b' holds the control character U\+000A"),
        (("claims", 0, "pair"), r"`claims` \[0\] `pair` "),
        (("claims", 0, "group"), r"`claims` \[0\] `group` "),
        (("claims", 0, "prompts"), r"`claims` \[0\] `prompts` "),
        (("claims", 0, "values", "base", "ids", 0), r"`values` \['base'\] `ids` \[0\] "),
        (("pairs", 0, "tuned", "name"), r"`pairs` \[0\] `tuned` `name` "),
        (("pairs", 0, "prompts", 0, "items", "clusters", 0), r"`items` `clusters` \[0\] "),
        (("run", "settings", "dtype"), r"`run` `settings` \['dtype'\] "),
    ],
)  # fmt: skip
def test_names_in_a_foreign_record_reach_no_terminal(place: tuple[str | int, ...], said: str, tmp_path: Path) -> None:
    path = write_record(mutants.some_record(), tmp_path / "run.json")
    node = data = json.loads(path.read_bytes())
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = "a\n::error::b"
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match=said) as error:
        read_record(path)
    assert "\n" not in str(error.value)
