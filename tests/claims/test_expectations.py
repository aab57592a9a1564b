"""Expectation files: everything that can be wrong in them, stale entries, and their rewriting from a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneshift.claims.expectations import Place, check_not_stale, expected_outcome, load_expectations
from tuneshift.claims.expectations_update import observed_update, update_file
from tuneshift.claims.finding import Expectation, Outcome
from tuneshift.errors import ExpectationError

NAMES = ("wu2023.instruction_density_rises", "wu2023.density_marks_followed", "wu2023.prompt_middle_recovers")
DATE = "2026-11-26"


def declared(verdict: Outcome, *, group: str | None = None, prompts: str | None = None) -> Expectation:
    return Expectation(finding=NAMES[0], verdict=verdict, reason="because", group=group, prompts=prompts)


def test_the_most_specific_declaration_counts() -> None:
    everywhere = declared(Outcome.CONTRADICTED)
    on_set = declared(Outcome.INCONCLUSIVE, prompts="general")
    in_group = declared(Outcome.REPRODUCED, group="after")
    both = declared(Outcome.NOT_APPLICABLE, group="after", prompts="general")
    for order in ((everywhere, on_set, in_group, both), (both, in_group, on_set, everywhere)):
        assert expected_outcome(order, NAMES[0], "general", "after") is both
        assert expected_outcome(order, NAMES[0], "other", "after") is in_group
        assert expected_outcome(order, NAMES[0], "general", "before") is on_set
        assert expected_outcome(order, NAMES[0], "other", "before") is everywhere
        assert expected_outcome(order, NAMES[1], "general", "after") is None
    assert expected_outcome((on_set, in_group), NAMES[0], "general", "after") is in_group
    assert expected_outcome((), NAMES[0], "general", "after") is None


def written(folder: Path, text: str) -> Path:
    path = folder / "expected.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = f'[[expect]]\nfinding = "{NAMES[0]}"\nverdict = "contradicted"\nreason = "too small a model"\n'


def test_a_file_of_expectations(tmp_path: Path) -> None:
    text = f"# known\n{GOOD}\n{GOOD}group = 'after'\nprompts = 'general'\n"
    assert load_expectations(written(tmp_path, text), NAMES) == (
        Expectation(finding=NAMES[0], verdict=Outcome.CONTRADICTED, reason="too small a model"),
        Expectation(
            finding=NAMES[0], verdict=Outcome.CONTRADICTED, reason="too small a model", group="after", prompts="general"
        ),
    )
    assert load_expectations(written(tmp_path, "# nothing yet\n"), NAMES) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[expect]\n", ["expected.toml: not TOML", "line 1"]),
        ("[[expects]]\n", ["unknown table 'expects'"]),
        ("[expect]\nfinding = 'x'\n", ["two brackets"]),
        ("expect = ['x']\n", ["[[expect]] 1 is not a table"]),
        (
            GOOD.replace("density_rises", "density_rise"),
            ["did you mean 'wu2023.instruction_density_rises'?", "known: "],
        ),
        (GOOD.replace("finding", "findng"), ["unknown key 'findng'", "did you mean 'finding'?"]),
        (GOOD.replace("contradicted", "contradict"), ["'contradict' is no verdict", "did you mean 'contradicted'?"]),
        (GOOD.replace("too small a model", " "), ["reason is ' '", "not empty"]),
        (GOOD.replace('reason = "too small a model"', ""), ["reason is missing"]),
        (GOOD + "group = 3\n", ["group is 3"]),
        (GOOD + GOOD, ["declared twice"]),
        (GOOD + GOOD.replace("verdict", "verdic"), ["[[expect]] 2"]),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, words: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ExpectationError) as caught:
        load_expectations(path, NAMES)
    for word in ["expected.toml", *words]:
        assert word in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match=r"absent\.toml cannot be read: No such file"):
        load_expectations(tmp_path / "absent.toml", NAMES)
    with pytest.raises(ExpectationError, match="cannot be read: Is a directory"):
        load_expectations(tmp_path, NAMES)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ExpectationError, match="not TOML: byte 2 is not UTF-8"):
        load_expectations(tmp_path / "latin.toml", NAMES)


PLACES = [Place(name, "general", group) for name in NAMES for group in ("before", "after")]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (declared(Outcome.CONTRADICTED, prompts="genral"), ["prompts 'genral'", "did you mean 'general'?"]),
        (declared(Outcome.CONTRADICTED, group="aftr"), ["no group 'aftr'", "did you mean 'after'?"]),
    ],
)
def test_a_stale_entry_is_named_with_the_nearest_that_exists(entry: Expectation, words: list[str]) -> None:
    with pytest.raises(ExpectationError) as caught:
        check_not_stale([entry], PLACES, path=Path("expected.toml"), pair="micro")
    for word in ["expected.toml, [[expect]] 1", "pair micro", *words]:
        assert word in str(caught.value)
    check_not_stale([declared(Outcome.CONTRADICTED, group="after")], PLACES, path=Path("x"), pair="micro")


def claim(name: str, verdict: str, group: str = "before") -> dict:
    return {"finding": name, "prompts": "general", "group": group, "verdict": verdict, "effect": 0.25,
            "interval": [0.125, 0.5], "reason": "Because."}  # fmt: skip


def both(name: str, before: str, after: str) -> list[dict]:
    return [claim(name, before), claim(name, after, "after")]


FILE = """# Head of the file.

# Why the first one is so.
[[expect]]  # first
finding = "wu2023.instruction_density_rises"
verdict = "contradicted"   # a comment
reason = "old"

# Why the second one is so.
[[expect]]
finding = "wu2023.density_marks_followed"
verdict = "inconclusive"
reason = "few"
# The end.
"""


def after_update(tmp_path: Path, claims: list[dict], text: str = FILE) -> tuple[str, tuple[Expectation, ...]]:
    path = written(tmp_path, text)
    before = load_expectations(path, NAMES)
    update = observed_update(before, claims, PLACES, DATE)
    update_file(path, "micro", before, update)
    found = load_expectations(path, NAMES)
    for c in claims:  # the theorem: what was observed is what is declared now
        e = expected_outcome(found, c["finding"], c["prompts"], c["group"])
        assert (e.verdict if e else "reproduced") == c["verdict"]
    assert not observed_update(found, claims, PLACES, DATE).changed
    return path.read_text(), found


def test_a_changed_verdict_is_rewritten_in_place_with_a_reason_to_replace(tmp_path: Path) -> None:
    text, _ = after_update(tmp_path, both(NAMES[0], "inconclusive", "inconclusive"))
    reason = "observed on 2026-11-26: effect +0.25 [+0.125, +0.5]; give the reason"
    assert text == FILE.replace('"contradicted"', '"inconclusive"').replace('"old"', f'"{reason}"')


def test_what_is_reproduced_now_goes_and_comments_stay(tmp_path: Path) -> None:
    text, found = after_update(tmp_path, both(NAMES[0], "reproduced", "reproduced"))
    assert [e.finding for e in found] == [NAMES[1]]
    for comment in ("# Head of the file.", "# Why the second one is so.", "# The end."):
        assert comment in text


def test_outcomes_that_differ_by_group_get_entries_of_their_own(tmp_path: Path) -> None:
    _, found = after_update(tmp_path, both(NAMES[0], "reproduced", "contradicted"))
    first = next(e for e in found if e.finding == NAMES[0])
    assert (first.verdict, first.group, first.reason) == ("contradicted", None, "old")
    _, found = after_update(tmp_path, both(NAMES[0], "reproduced", "inconclusive"))
    assert [(e.verdict, e.group) for e in found if e.finding == NAMES[0]] == [("inconclusive", "after")]


def test_a_group_that_did_not_run_keeps_its_declaration(tmp_path: Path) -> None:
    _, found = after_update(tmp_path, [claim(NAMES[0], "reproduced")])
    assert expected_outcome(found, NAMES[0], "general", "after").verdict == "contradicted"


def test_new_outcomes_are_appended_and_findings_that_did_not_run_are_left_alone(tmp_path: Path) -> None:
    text, _ = after_update(tmp_path, both(NAMES[2], "contradicted", "reproduced"))
    assert text.startswith(FILE)
    assert text[len(FILE) :].count("[[expect]]") == 1


def test_a_stale_entry_of_a_finding_that_ran_is_taken_out(tmp_path: Path) -> None:
    stale = FILE + f'\n[[expect]]\nfinding = "{NAMES[1]}"\nverdict = "contradicted"\nreason = "x"\ngroup = "gone"\n'
    _, found = after_update(tmp_path, both(NAMES[0], "contradicted", "contradicted"), stale)
    assert "gone" in {e.group for e in found}
    _, found = after_update(tmp_path, both(NAMES[1], "inconclusive", "inconclusive"), stale)
    assert "gone" not in {e.group for e in found}


def test_as_declared_leaves_the_file_untouched(tmp_path: Path) -> None:
    text, _ = after_update(tmp_path, both(NAMES[0], "contradicted", "contradicted"))
    assert text == FILE


def test_hostile_reasons_stay_texts(tmp_path: Path) -> None:
    bad = {**claim(NAMES[2], "inconclusive"), "effect": None, "reason": 'a "quote"\n[[expect]]\nx = 1'}
    _, found = after_update(tmp_path, [bad, {**bad, "group": "after"}])
    assert len([e for e in found if e.finding == NAMES[2]]) == 2


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneshift.claims.expectations_update.publish", full)
    with pytest.raises(ExpectationError, match=r"No space left on device\. It is as it was"):
        after_update(tmp_path, both(NAMES[0], "inconclusive", "inconclusive"))
    assert (tmp_path / "expected.toml").read_text() == FILE


def test_outcomes_written_as_an_array_are_refused(tmp_path: Path) -> None:
    text = f'expect = [{{ finding = "{NAMES[0]}", verdict = "contradicted", reason = "x" }}]\n'
    with pytest.raises(ExpectationError, match="left as it was"):
        after_update(tmp_path, both(NAMES[0], "inconclusive", "inconclusive"), text)
    assert (tmp_path / "expected.toml").read_text() == text
