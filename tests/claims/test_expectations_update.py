"""Rewriting expectations: after an update the file declares what was observed, whatever it said before."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tuneshift.claims.expectations import Place, expected_outcome, load_expectations
from tuneshift.claims.expectations_update import GIVE_THE_REASON, Update, observed_update, rewritten, update_file
from tuneshift.claims.finding import Expectation, Outcome
from tuneshift.errors import ExpectationError

IDS = ("who2024.one", "who2024.two")
PLACES = [Place(i, prompts, group) for i in IDS for prompts in ("general", "mt") for group in ("before", "after")]
DATE = "2026-11-29"


def entry(verdict: str, finding: str = IDS[0], **where: str) -> Expectation:
    return Expectation(finding=finding, verdict=Outcome(verdict), reason="because", **where)


def claim(place: Place, verdict: str, **more: object) -> dict:
    observed = {"verdict": verdict, "effect": 0.25, "interval": [0.125, 0.5], "reason": "So."}
    return {"finding": place.finding, "prompts": place.prompts, "group": place.group, **observed, **more}


def after(declared: list[Expectation], update: Update) -> list[Expectation]:
    kept = (update.changed.get(number, e) for number, e in enumerate(declared))
    return [e for e in (*kept, *update.added) if e is not None]


def said(declared: list[Expectation], place: Place) -> str | None:
    found = expected_outcome(declared, *place)
    return None if found is None else found.verdict.value


@pytest.mark.parametrize("seed", range(60))
def test_what_ran_is_declared_as_observed_and_what_did_not_run_as_before(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = [outcome.value for outcome in Outcome]
    wheres = [{}, {"prompts": "mt"}, {"group": "after"}, {"prompts": "mt", "group": "after"}]
    slots = rng.sample(list(itertools.product(IDS, wheres)), rng.randint(0, 5))
    declared = [entry(rng.choice(verdicts), finding, **where) for finding, where in slots]
    ran = rng.sample(PLACES, rng.randint(1, len(PLACES)))
    claims = [claim(place, rng.choice(verdicts)) for place in ran]
    update = observed_update(declared, claims, PLACES, DATE)
    new = after(declared, update)
    for place, made in zip(ran, claims, strict=True):
        now = said(new, place)
        assert now == made["verdict"] or (now is None and made["verdict"] in ("reproduced", "not_applicable"))
    for place in set(PLACES) - set(ran):
        before, now = said(declared, place), said(new, place)
        assert now == before or {now, before} <= {None, "reproduced"}, place
    again = observed_update(new, claims, PLACES, DATE)
    assert not again.changed
    assert not again.added


def test_a_special_entry_stays_where_it_shields_a_claim_from_a_general_one() -> None:
    """Undeclared means reproduced, so such an entry is needless, but not below one that says otherwise."""
    wide, special = entry("contradicted"), entry("inconclusive", group="after")
    ran = [claim(p, "reproduced" if p.group == "after" else "contradicted") for p in PLACES if p.finding == IDS[0]]
    shielded = observed_update([wide, special], ran, PLACES, DATE)
    assert [e.verdict if e else None for e in shielded.changed.values()] == ["reproduced"]
    alone = observed_update([special], [c for c in ran if c["group"] == "after"], PLACES, DATE)
    assert alone.changed == {0: None}


def test_an_added_entry_says_where_only_if_the_finding_has_several_places() -> None:
    one = [Place(IDS[0], "general", "all")]
    (added,) = observed_update([], [claim(one[0], "contradicted")], one, DATE).added
    assert (added.prompts, added.group) == (None, None)
    (added,) = observed_update([], [claim(PLACES[3], "contradicted")], PLACES, DATE).added
    assert (added.prompts, added.group) == ("mt", "after")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "observed on 2026-11-29: effect +0.25 [+0.125, +0.5]; give the reason"),
        ({"effect": -1e-5, "interval": [-1.0, 1 / 3]}, "effect -1e-05 [-1, +0.333]; give the reason"),
        ({"effect": None, "interval": [None, None]}, "observed on 2026-11-29: So; give the reason"),
        ({"interval": [None, 0.5]}, "observed on 2026-11-29: So; give the reason"),
    ],
)
def test_the_reason_is_what_was_seen_for_a_person_to_replace(more, reason) -> None:
    (added,) = observed_update([], [claim(PLACES[0], "inconclusive", **more)], PLACES, DATE).added
    assert added.reason.endswith(reason)
    assert added.reason.endswith(GIVE_THE_REASON)


def test_counts_of_what_is_changed_added_and_removed() -> None:
    update = Update(changed={0: entry("contradicted"), 2: None, 3: None}, added=(entry("inconclusive"),))
    assert update.counts == "1 changed, 1 added, 2 removed"


TEXT = '# head\n\n[[expect]]  # one\nfinding = "who2024.one"\nverdict = "contradicted"\nreason = "because"\n# foot\n'


def test_no_update_leaves_every_byte_and_lines_end_as_the_file_ends_them() -> None:
    windows = TEXT.replace("\n", "\r\n")
    for text in (TEXT, windows, TEXT.removesuffix("\n"), ""):
        assert rewritten(text, Update()) == text
    made = rewritten(windows, Update(added=(entry("inconclusive", IDS[1]),)))
    assert made.startswith(windows)
    assert made.count("\r\n") == made.count("\n") == windows.count("\n") + 5


def test_removing_takes_the_entry_and_no_comment() -> None:
    assert rewritten(TEXT, Update(changed={0: None})) == "# head\n\n# foot\n"


def test_an_update_of_nothing_writes_nothing_and_a_new_file_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er.toml"
    assert not update_file(path, "micro", (), Update())
    assert not path.parent.exists()
    added = entry("contradicted", prompts='a "quoted" set')
    assert update_file(path, "micro", (), Update(added=(added,)))
    assert path.read_text().startswith("# Known outcomes of the pair micro. ")
    assert load_expectations(path, IDS) == (added,)


def test_a_link_stays_a_link_and_its_file_is_rewritten(tmp_path: Path) -> None:
    target, link = tmp_path / "target.toml", tmp_path / "link.toml"
    target.write_text(TEXT)
    link.symlink_to(target)
    update_file(link, "micro", load_expectations(link, IDS), Update(changed={0: entry("inconclusive")}))
    assert link.is_symlink()
    assert target.read_text() == TEXT.replace('"contradicted"', '"inconclusive"')


def test_a_file_that_says_something_else_by_now_is_left_alone(tmp_path: Path) -> None:
    """Another process, or a person in an editor, changed it since the run read it."""
    path = tmp_path / "expected.toml"
    path.write_text(TEXT)
    declared = load_expectations(path, IDS)
    edited = TEXT.replace("contradicted", "not_applicable") + TEXT.replace("one", "two")
    path.write_text(edited)
    with pytest.raises(ExpectationError, match=r"expected\.toml is left as it was: the new text would not say"):
        update_file(path, "micro", declared, Update(changed={0: entry("inconclusive")}))
    assert path.read_text() == edited


def test_a_folder_that_cannot_be_made_is_said_and_never_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExpectationError, match=r"cannot be written: .*It is as it was\."):
        update_file(tmp_path / "file" / "e.toml", "micro", (), Update(added=(entry("contradicted"),)))
