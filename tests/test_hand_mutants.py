"""The mutants picked by hand still fit the code, so that .ci/nightly, where they take half an hour, tries them all."""

from __future__ import annotations

from hand_mutants import MUTANTS, misfits


def test_each_mutants_text_stands_once_in_its_file() -> None:
    assert misfits() == []


def test_there_are_sixty() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60
