"""Prompt sets: JSONL files, checked line by line, with the character spans of every prompt's instruction."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from ..errors import PromptError, did_you_mean
from ..parse import MalformedError, fault_of_name, parse_json, shown_name
from ..plain import Json
from ..resources import fixture
from .prompt import Prompt, PromptSet, PromptSource, Span
from .verifiers import check_spec

KNOWN_FIELDS = ("id", "prompt", "instruction_spans", "reference", "cluster", "topic", "group", "verify")
SUFFIX = ".jsonl"


def names_a_file(text: str) -> bool:
    """Whether a prompt set is named by path (a separator, ``~``, a variable or ``.jsonl``) and not as a shipped set."""
    return "/" in text or "\\" in text or text.startswith(("~", "$", ".")) or text.endswith(SUFFIX)


def shipped_sets() -> tuple[str, ...]:
    """Names of the prompt sets that tuneshift ships."""
    return tuple(sorted(path.stem for path in fixture("prompts").glob(f"*{SUFFIX}")))


def load_prompts(source: PromptSource | str | os.PathLike[str], *, pair: str | None = None) -> PromptSet:
    """The prompts of a JSONL file or shipped set, in file order, with spans sorted and groups assigned.

    A line is an object with ``id``, ``prompt`` and ``instruction_spans`` ([start, end) in characters), optionally
    ``reference``, ``cluster``, ``topic``, ``group`` and ``verify``; every other field is kept in ``Prompt.fields``. A
    line in IFEval's form (``key``, ``prompt``, ``instruction_id_list``, ``kwargs``) may leave out ``id`` and
    ``instruction_spans``: they are ``ifeval-KEY`` and the whole prompt. ``pair`` is the pair that asks, for messages.
    Raises PromptError with file and line where the file departs from this, and where ``source.groups`` does not put
    every prompt into exactly one group.
    """
    if not isinstance(source, PromptSource):
        source = PromptSource(path=os.path.expanduser(os.fspath(source)))
    path = _path(source.path, pair)
    for what, name in (("prompt set", path.stem), *(("group", group) for group in source.groups)):
        if fault := fault_of_name(name):
            raise PromptError(f"{what} {shown_name(name)} {fault}.")
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):  # splitlines would also break at U+2028
        if not line.strip():
            continue
        prompt = _Line(path, number).prompt(line)
        if prompt.id in seen:
            _Line(path, number).fail(f"id {prompt.id!r} is already that of line {seen[prompt.id]}; ids are unique")
        seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise PromptError(f"{path}: no prompts in this file; it needs one JSON object a line.")
    if source.groups:
        prompts = _grouped(prompts, source.groups, path)
    return PromptSet(name=path.stem, source=str(path), prompts=tuple(prompts))


def _path(name: str, pair: str | None) -> Path:
    asked = f"pair {pair!r}: " if pair else ""
    if names_a_file(name):
        path = Path(name)
        if not os.path.isfile(path):  # unlike Path.is_file, False for a name too long for the file system
            what = "is not a file" if os.path.exists(path) else "does not exist"
            raise PromptError(f"{asked}prompt set {name} {what}; name a JSONL file or one of the shipped sets.")
        return path
    path = fixture(f"prompts/{name}{SUFFIX}")
    if not os.path.isfile(path):
        raise PromptError(
            f"{asked}no shipped prompt set {name!r}; {did_you_mean(name, shipped_sets())}; or give a path."
        )
    return path


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{path}:{line}: byte {error.start} (0x{raw[error.start]:02X}) is not UTF-8 ({error.reason}); "
            "save the file as UTF-8."
        ) from error


class _Line:
    """One line of a prompt file: turns it into a Prompt or says, with file and line, why it cannot be one."""

    def __init__(self, path: Path, number: int) -> None:
        self.where = f"{path}:{number}"

    def fail(self, message: str) -> NoReturn:
        raise PromptError(f"{self.where}: {message}.")

    def prompt(self, line: str) -> Prompt:
        try:
            value = parse_json(line)
        except MalformedError as error:
            self.fail(str(error))
        if not isinstance(value, dict):
            self.fail(f"a JSON {type(value).__name__} where a JSON object is wanted, one a line")
        if "instruction_id_list" in value:
            value = self._ifeval(value)
        for name in ("id", "prompt", "instruction_spans"):
            if name not in value:
                self.fail(f"no field {name!r}; got {', '.join(map(repr, value)) or 'no fields'}")
        text = self._string(value, "prompt")
        if not text.strip():
            self.fail("the prompt is empty")
        return Prompt(
            id=self._name(value, "id"),
            prompt=text,
            instruction_spans=self._spans(value["instruction_spans"], text),
            reference=None if value.get("reference") is None else self._string(value, "reference"),
            cluster=None if value.get("cluster") is None else self._name(value, "cluster"),
            topic=None if value.get("topic") is None else self._name(value, "topic"),
            group="all" if value.get("group") is None else self._name(value, "group"),
            verify=self._rule(value.get("verify")),
            fields={name: field for name, field in value.items() if name not in KNOWN_FIELDS},
        )

    def _rule(self, verify: Json) -> Mapping[str, Json] | None:
        if verify is None:
            return None
        try:
            check_spec(verify)
        except PromptError as error:
            raise PromptError(f"{self.where}: {error}") from error
        rule: Mapping[str, Json] = verify
        return rule

    def _ifeval(self, value: dict[str, Json]) -> dict[str, Json]:
        """A line in IFEval's form with id and spans; its instructions and their arguments match."""
        names, given, key = value["instruction_id_list"], value.get("kwargs"), value.get("key")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self.fail(f"'instruction_id_list' is a list of strings that is not empty, got {names!r}")
        if not isinstance(given, list) or not all(isinstance(arguments, dict) for arguments in given):
            self.fail(f"'kwargs' is a list of objects, one per instruction, got {given!r}")
        if len(given) != len(names):
            self.fail(f"'kwargs' has {len(given)} objects for {len(names)} instructions; one per instruction is wanted")
        found = dict(value)
        if "id" not in value:
            if isinstance(key, bool) or not isinstance(key, int | str):
                self.fail(f"'key' is a whole number or a string where there is no 'id', got {key!r}")
            found["id"] = f"ifeval-{key}"
        if "instruction_spans" not in value and "prompt" in value:
            found["instruction_spans"] = [[0, len(self._string(value, "prompt"))]]
        return found

    def _string(self, value: Mapping[str, Json], name: str) -> str:
        text = value[name]
        if not isinstance(text, str):
            self.fail(f"{name!r} is a string, got {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.fail(f"{name!r} holds half of a surrogate pair at character {error.start}; no tokenizer takes that")
        return text

    def _name(self, value: Mapping[str, Json], name: str) -> str:
        text = self._string(value, name)
        if not text.strip():
            self.fail(f"{name!r} is empty")
        if fault := fault_of_name(text):
            self.fail(f"{name!r} {shown_name(text)} {fault}")
        return text

    def _spans(self, value: Any, text: str) -> tuple[Span, ...]:
        if not isinstance(value, list):
            self.fail(f"'instruction_spans' is a list of [start, end) pairs, got {value!r}")
        if not value:
            self.fail("no instruction span; a prompt has at least one")
        for span in value:
            # type, not isinstance: JSON's true would pass for 1
            if not isinstance(span, list) or len(span) != 2 or any(type(edge) is not int for edge in span):
                self.fail(f"an instruction span is [start, end) in whole characters, got {span!r}")
            start, end = span
            if start < 0 or end > len(text):
                self.fail(f"instruction span {span} lies outside the prompt, which has {len(text)} characters")
            if start >= end or not text[start:end].strip():
                self.fail(f"instruction span {span} holds no character but white space")
        spans = sorted((start, end) for start, end in value)
        for (_, end), (start, after) in pairwise(spans):
            if start < end:
                self.fail(f"instruction span {[start, after]} overlaps the one before it, which ends at {end}")
        return tuple(spans)


def _grouped(prompts: list[Prompt], groups: Mapping[str, str], path: Path) -> list[Prompt]:
    grouped: list[Prompt] = []
    wrong: list[str] = []
    for prompt in prompts:
        names = [name for name, pattern in groups.items() if fnmatchcase(prompt.id, pattern)]
        if len(names) == 1:
            grouped.append(replace(prompt, group=names[0]))
        else:
            wrong.append(f"{prompt.id} ({', '.join(names) or 'none'})")
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        patterns = ", ".join(f"{name} = {pattern!r}" for name, pattern in groups.items())
        raise PromptError(f"{path}: every prompt id falls into exactly one group ({patterns}); these do not: {shown}.")
    return grouped
