"""Exact verifiers: is a response correct, on task and ended, by a rule that a prompt's ``verify`` field holds as JSON.

A rule is an object with ``kind`` and that kind's fields (`KINDS` lists them). Every kind also takes ``max_words``: a
longer response is wrong, whatever it contains, so that a model which rambles on through all candidates earns nothing.
The optional ``on_task`` is a rule of its own, usually laxer: a wrong colour still answers a question about colour.
Texts are compared without regard to case, runs of white space and white space at the ends; ``regex`` alone reads the
response as it was written, unless its field ``fold`` is true. Every test takes time linear in the response, but for
``regex``, which has a time limit; a response beyond 100,000 characters is wrong unread.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from ..errors import PromptError
from .prompt import Prompt

Spec = Mapping[str, Any]

NUMBER_WORD = re.compile(r"^(?:and|or|the|a|an)\s+")
END_MARK = re.compile(r"([.!?])")
BULLET = re.compile(r"(?m)^[^\S\n]*(?:[-*]|\d+[.)])\s+")
LONGEST = 100_000
"""Characters of a response that is read: more than any length of generation here gives, and a tenth of a second."""
LONGEST_PATTERN = 2_000
"""Characters of a user's pattern."""
MOST_REPEATS = 1_000_000
"""Characters of a pattern with its counted repetitions written out, as the engine does when it compiles one."""
REPEAT = re.compile(r"\{(\d+)")
SECONDS = 2.0
"""Processor time that one search for a user's pattern may take; an honest one takes a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a verifier found: content ``correct``; ``on_task``, true whenever correct; ``ended`` by the model itself."""

    correct: bool
    on_task: bool
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of rule: the fields it needs and may have, each with its type, and the test.

    The test gets the folded response; with ``raw`` the response itself, where line ends count.
    """

    test: Callable[[Spec, str], bool]
    needs: Mapping[str, type | tuple[type, ...]]
    may: Mapping[str, type | tuple[type, ...]]
    raw: bool = False


def verify(spec: Spec, response: str, *, ended: bool) -> Verification:
    """Verification of a response by a rule; ``ended`` says whether the model itself ended it, and is passed through.

    Raises PromptError for an unknown kind or a malformed rule, naming what is accepted, and for a pattern that takes
    longer than 2 s.
    """
    check_spec(spec)
    correct = _holds(spec, response)
    on_task = correct or ("on_task" in spec and _holds(spec["on_task"], response))
    return Verification(correct=correct, on_task=on_task, ended=ended)


def check_spec(spec: Any) -> None:
    """Raise PromptError unless ``spec`` is a rule: a known kind with its fields, each of its type, and no others."""
    if not isinstance(spec, Mapping):
        raise PromptError(f"verify: got {spec!r}; accepted is a JSON object with a field 'kind'.")
    named = spec.get("kind")
    kind = KINDS.get(named) if isinstance(named, str) else None
    if kind is None:
        raise PromptError(f"verify: kind {named!r} is unknown; accepted are {', '.join(sorted(KINDS))}.")
    accepted = {**kind.needs, **kind.may, "max_words": int, "on_task": Mapping}
    missing = [name for name in kind.needs if name not in spec]
    unknown = [name for name in spec if name not in accepted and name != "kind"]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"has the unknown {', '.join(unknown)}"
        raise PromptError(
            f"verify: the rule of kind {spec['kind']!r} {fault}; it needs {', '.join(kind.needs)} "
            f"and may have {', '.join(name for name in accepted if name not in kind.needs)}."
        )
    for name, value in spec.items():
        if name != "kind":
            _check_field(spec["kind"], name, value, accepted[name])


def fold(text: str) -> str:
    """Text for comparison: case folded, runs of white space as one space, none at the ends."""
    return " ".join(text.casefold().split())


def items(response: str) -> list[str]:
    """Items of a listing, parted by commas, semicolons, line ends or "and"; folded, without articles and bullets."""
    lines = BULLET.sub("", response)
    parts = re.split(r"[,;\n]|\band\b", lines.casefold())
    stripped = (NUMBER_WORD.sub("", fold(part).strip(" .!:\"'")) for part in parts)
    return [part for part in stripped if part]


def sentences(response: str) -> list[str]:
    """Sentences of a response: stretches that a full stop, question or exclamation mark ends."""
    parts = END_MARK.split(response)  # text and marks by turns
    return [(text + mark).strip() for text, mark in zip(parts[::2], parts[1::2], strict=False) if text.strip()]


def _check_field(kind: str, name: str, value: Any, accepted: type | tuple[type, ...]) -> None:
    wrong = not isinstance(value, accepted) or (isinstance(value, bool) and accepted is int)
    if accepted is list:
        wrong = wrong or not value or not all(isinstance(v, Mapping if name == "of" else str) for v in value)
    if wrong:
        raise PromptError(f"verify: {name} of kind {kind!r} is {value!r}; accepted is {_ACCEPTED[accepted]}.")
    if name == "on_task":
        check_spec(value)
    if name == "of":
        for rule in value:
            check_spec(rule)
    if name == "pattern":
        _check_pattern(value)


def _check_pattern(pattern: str) -> None:
    written_out = len(pattern)
    for count in REPEAT.findall(pattern):
        written_out *= max(1, int(count[:10]))
    if len(pattern) > LONGEST_PATTERN or written_out > MOST_REPEATS:
        raise PromptError(
            f"verify: pattern {pattern!r:.80} is too large: {LONGEST_PATTERN:,} characters are accepted, and "
            f"{MOST_REPEATS:,} with its repetitions written out."
        )
    try:
        _compiled(pattern, fold=False)
    except (regex.error, OverflowError, RecursionError) as error:
        raise PromptError(f"verify: pattern {pattern!r:.80} is no regular expression: {error}.") from None


def _compiled(pattern: str, *, fold: bool) -> regex.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of notation that a later version may read otherwise
        return regex.compile(pattern, regex.IGNORECASE if fold else 0)


def _holds(spec: Spec, response: str) -> bool:
    if len(response) > LONGEST:
        return False
    limit = spec.get("max_words")
    if limit is not None and len(response.split()) > limit:
        return False
    kind = KINDS[spec["kind"]]
    return kind.test(spec, response if kind.raw else fold(response))


def _position(phrase: str, text: str) -> int:
    """Start of the phrase as whole words in a folded text, -1 where it is not."""
    folded, pattern = _whole_words(phrase)
    # Most phrases are nowhere in a response, which is seen sooner without the pattern.
    match = pattern.search(text) if folded in text else None
    return match.start() if match else -1


@lru_cache(maxsize=16_384)
def _whole_words(phrase: str) -> tuple[str, re.Pattern[str]]:
    """The folded phrase, and the pattern of it as whole words: a set's rules name more than re keeps compiled."""
    folded = fold(phrase)
    return folded, re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")


def _has(phrase: str, text: str) -> bool:
    return _position(phrase, text) >= 0


def _none(spec: Spec, text: str) -> bool:
    return not any(_has(phrase, text) for phrase in spec.get("none", ()))


def _exact(spec: Spec, text: str) -> bool:
    return text.strip(" .!\"'") in {fold(answer).strip(" .!\"'") for answer in spec["answers"]}


def _contains_all(spec: Spec, text: str) -> bool:
    return all(_has(answer, text) for answer in spec["answers"]) and _none(spec, text)


def _contains_any(spec: Spec, text: str) -> bool:
    return any(_has(answer, text) for answer in spec["answers"]) and _none(spec, text)


def _regex(spec: Spec, text: str) -> bool:
    fold_it = spec.get("fold", False)
    read = fold(text) if fold_it else text
    try:
        return _compiled(spec["pattern"], fold=fold_it).search(read, timeout=SECONDS) is not None
    except TimeoutError:
        raise PromptError(
            f"verify: the pattern {spec['pattern']!r} takes longer than {SECONDS:g} s on a response of {len(read)} "
            "characters; rewrite it without repetitions inside repetitions, as (a+)+."
        ) from None


def _sequence(spec: Spec, text: str) -> bool:
    """The answers in this order, each right of the one before."""
    start = 0
    for answer in spec["answers"]:
        at = _position(answer, text[start:])
        if at < 0:
            return False
        start += at + len(fold(answer))
    return _none(spec, text)


def _set(spec: Spec, text: str) -> bool:
    """Exactly ``count`` different items, all of them members; words before the first colon introduce the list."""
    members = {fold(member) for member in spec["members"]}
    found = items(text.partition(":")[2] or text)
    return len(found) == spec["count"] and len(set(found)) == len(found) and members.issuperset(found)


def _sentences(spec: Spec, text: str) -> bool:
    """The number of sentences, all different, nothing left over; each has the words of ``each`` and is a member."""
    found = sentences(text)
    whole = text.endswith((".", "!", "?"))
    each = all(_has(word, sentence) for sentence in found for word in spec.get("each", ()))
    known = "members" not in spec or {fold(member) for member in spec["members"]}.issuperset(found)
    return whole and len(found) == spec["count"] and len(set(found)) == len(found) and each and known


def _all(spec: Spec, text: str) -> bool:
    return all(_holds(rule, text) for rule in spec["of"])


def _any(spec: Spec, text: str) -> bool:
    return any(_holds(rule, text) for rule in spec["of"])


_ACCEPTED: Mapping[Any, str] = {
    list: "a list that is not empty, of strings (for 'of': of rules)",
    int: "a whole number",
    bool: "true or false",
    str: "a string",
    Mapping: "a rule, that is a JSON object with a field 'kind'",
}

_NONE: Mapping[str, type | tuple[type, ...]] = {"none": list}

KINDS: Mapping[str, Kind] = {
    "exact": Kind(test=_exact, needs={"answers": list}, may={}),
    "contains_all": Kind(test=_contains_all, needs={"answers": list}, may=_NONE),
    "contains_any": Kind(test=_contains_any, needs={"answers": list}, may=_NONE),
    "regex": Kind(test=_regex, needs={"pattern": str}, may={"fold": bool}, raw=True),
    "sequence": Kind(test=_sequence, needs={"answers": list}, may=_NONE),
    "set": Kind(test=_set, needs={"members": list, "count": int}, may={}, raw=True),
    "sentences": Kind(test=_sentences, needs={"count": int}, may={"each": list, "members": list}),
    "all": Kind(test=_all, needs={"of": list}, may={}, raw=True),
    "any": Kind(test=_any, needs={"of": list}, may={}, raw=True),
}
"""Kinds of rules. ``none``: phrases that must not occur. ``pattern``: a regular expression of the
package `regex` (a superset of Python's), searched for in the response as it was written; with ``fold`` in its folded
text, without regard to case."""


def followed(prompt: Prompt, ratings: str) -> bool | None:
    """Whether the response was rated as following the instruction: field ``ratings`` 2 or more; 1 is not followed.

    None where the field is missing or holds anything else (the published set marks unrated prompts by -1).
    """
    rating = prompt.fields.get(ratings)
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        return None
    if rating >= 2:
        return True
    return False if rating == 1 else None
