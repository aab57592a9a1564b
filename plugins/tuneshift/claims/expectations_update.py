"""Rewriting an expectations file from the outcomes of a run: comments and order stay, nothing is lost halfway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ExpectationError
from ..files import publish
from ..parse import parse_toml
from ..plain import Json
from .expectations import Place, expected_outcome
from .finding import Expectation, Outcome

GIVE_THE_REASON = "give the reason"
"""What an observed reason ends in, for a person to replace."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is to become of a file's entries. ``changed``: by the entry's place in the file, None where it goes."""

    changed: Mapping[int, Expectation | None] = field(default_factory=dict)
    added: tuple[Expectation, ...] = ()

    @property
    def counts(self) -> str:
        """``1 changed, 2 added, 0 removed``."""
        removed = sum(e is None for e in self.changed.values())
        return f"{len(self.changed) - removed} changed, {len(self.added)} added, {removed} removed"


def observed_update(
    declared: Sequence[Expectation], claims: Sequence[Mapping[str, Json]], places: Sequence[Place], date: str
) -> Update:
    """What a run's claims on one pair make of its declared outcomes; ``places`` are those of its complete run.

    An entry all of whose claims ran and agree takes their verdict, or goes where they are reproduced. Where they
    differ, or only some ran, it stays for those that it is right about and the others get entries of their own. Claims
    of no entry get one unless they are reproduced or not applicable, which needs no declaring. An entry that no place
    fits goes where its finding ran.
    """
    ran = {Place(c["finding"], c["prompts"], c["group"]): c for c in claims}
    changed: dict[int, Expectation | None] = {}
    own_entries: list[Place] = []
    for number, entry in enumerate(declared):
        covered = [place for place in places if expected_outcome(declared, *place) is entry]
        seen = [place for place in covered if place in ran]
        news = [place for place in seen if ran[place]["verdict"] != entry.verdict]
        if not covered and any(place.finding == entry.finding for place in ran):
            changed[number] = None
        elif news and len(seen) == len(covered) and len({ran[place]["verdict"] for place in covered}) == 1:
            changed[number] = _observed(entry, ran[covered[0]], date)
        else:
            own_entries += news
            if news and len(news) == len(covered):
                changed[number] = None
    kept = [changed.get(number, entry) for number, entry in enumerate(declared)]
    changed |= _needless(kept, changed, places)
    after = (changed.get(number, entry) for number, entry in enumerate(declared))
    left = [entry for entry in after if entry is not None]
    added = [_entry(place, ran[place], date, exact=True) for place in own_entries]
    for place, claim in ran.items():
        if expected_outcome([*left, *added], *place) is None and claim["verdict"] not in (
            "reproduced",
            "not_applicable",
        ):
            exact = sum(other.finding == place.finding for other in places) > 1
            added.append(_entry(place, claim, date, exact=exact))
    needed = [
        e for e in added
        if e.verdict is not Outcome.REPRODUCED or any(
            other.finding == e.finding and other.prompts in (None, e.prompts) and other.group in (None, e.group)
            for other in left
        )
    ]  # fmt: skip
    return Update(changed=changed, added=tuple(needed))


def _needless(
    kept: Sequence[Expectation | None], changed: Mapping[int, Expectation | None], places: Sequence[Place]
) -> dict[int, None]:
    """Entries that changed to reproduced and shield no claim from a more general one: undeclared means the same."""
    found: dict[int, None] = {}
    for number, entry in enumerate(kept):
        if number not in changed or entry is None or entry.verdict is not Outcome.REPRODUCED:
            continue
        others = [e for k, e in enumerate(kept) if k != number and e is not None]
        present = [e for e in kept if e is not None]
        mine = [place for place in places if expected_outcome(present, *place) is entry]
        if all(expected_outcome(others, *place) is None for place in mine):
            found[number] = None
    return found


def _observed(entry: Expectation, claim: Mapping[str, Json], date: str) -> Expectation:
    return replace(entry, verdict=Outcome(claim["verdict"]), reason=_reason(claim, date))


def _entry(place: Place, claim: Mapping[str, Json], date: str, *, exact: bool) -> Expectation:
    return Expectation(
        finding=place.finding,
        verdict=Outcome(claim["verdict"]),
        reason=_reason(claim, date),
        prompts=place.prompts if exact else None,
        group=place.group if exact else None,
    )


def _reason(claim: Mapping[str, Json], date: str) -> str:
    low, high = claim["interval"]
    if claim["effect"] is None or low is None or high is None:
        return f"observed on {date}: {claim['reason'].rstrip('.')}; {GIVE_THE_REASON}"
    return f"observed on {date}: effect {claim['effect']:+.3g} [{low:+.3g}, {high:+.3g}]; {GIVE_THE_REASON}"


def rewritten(text: str, update: Update) -> str:
    """The file's text with the update in it; comments, order and untouched entries as they were.

    Comments after a removed entry stay: in TOML they may belong to the next. Raises ExpectationError where entries
    are written in a way that cannot be edited in place.
    """
    import tomlkit
    from tomlkit.items import AoT

    newline = "\r\n" if "\r\n" in text else "\n"
    document = tomlkit.parse(text)
    tables = document.get("expect")
    if tables is not None and not isinstance(tables, AoT):
        raise ExpectationError("its outcomes are no [[expect]] tables; write one such table for each, then run again.")
    parts = [item.as_string() for key, item in document.body if key is None]
    for number, table in enumerate(tables if tables is not None else ()):
        if number in update.changed and update.changed[number] is None:
            parts.append(_after_last_key(table))
            continue
        entry = update.changed.get(number)
        if entry is not None:
            table["verdict"], table["reason"] = entry.verdict.value, entry.reason
        trivia = table.trivia
        parts.append(f"{trivia.indent}[[expect]]{trivia.comment_ws}{trivia.comment}{trivia.trail}{table.as_string()}")
    body = "".join(parts)
    for entry in update.added:
        fields = ("finding", "verdict", "reason", "prompts", "group")
        values = {name: str(value) for name in fields if (value := getattr(entry, name)) is not None}
        lines = ["[[expect]]", *(f"{name} = {tomlkit.item(value).as_string()}" for name, value in values.items())]
        gap = "" if not body else newline if body.endswith("\n") else 2 * newline
        body += gap + newline.join(lines) + newline
    return body


def _after_last_key(table: Any) -> str:
    body = table.value.body
    last = max(k for k, (key, _) in enumerate(body) if key is not None)
    return "".join(item.as_string() for _, item in body[last + 1 :])


def update_file(path: Path, pair: str, declared: Sequence[Expectation], update: Update) -> bool:
    """Write the update into a pair's file, whole or not at all; whether there was anything to write.

    Raises ExpectationError where the file cannot be written, and OSError never: what stood there stays.
    """
    if not update.changed and not update.added:
        return False
    target = path.resolve()  # a link stays a link
    head = f"# Known outcomes of the pair {pair}. Declared outcomes are strict: when one changes, the run fails.\n"
    try:
        text = target.read_bytes().decode() if target.exists() else head
        new = rewritten(text, update)
        _check(new, declared, update)
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(target, new.encode())
    except OSError as error:
        raise ExpectationError(
            f"The expectations file {path} cannot be written: {error.strerror or error}. It is as it was."
        ) from error
    except ExpectationError as error:
        raise ExpectationError(f"The expectations file {path} is left as it was: {error}") from error
    return True


def _check(text: str, declared: Sequence[Expectation], update: Update) -> None:
    """Nothing but the update may differ in what the new text says, whatever way the file was written."""
    kept = [update.changed.get(number, entry) for number, entry in enumerate(declared)]
    wanted = [e for e in (*kept, *update.added) if e is not None]
    tables = parse_toml(text).get("expect", [])
    if [Expectation(**{**table, "verdict": Outcome(table["verdict"])}) for table in tables] != wanted:
        raise ExpectationError("the new text would not say what it should; edit the entries by hand.")
