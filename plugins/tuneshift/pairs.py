"""Options and TOML to model pairs. Every message names the file (or option) and the pair that it is about."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any
from unicodedata import normalize

from .checkpoint_specs import chat_template, checkpoint_of, checkpoint_ref, path_parts
from .checkpoints.refs import ModelRef
from .config import EMBEDDED, ConfigPlace
from .errors import EvidenceFileError, PairError, did_you_mean
from .files import folders_upward
from .parse import MalformedError, fault_of_name, parse_toml
from .plain import NOTHING, Json
from .prompts.prompt import PromptSource
from .prompts.sets import names_a_file
from .prompts.spec import chat_day, chat_variables, thinking_tags
from .resources import fixture
from .store.evidence_file import SUFFIX
from .store.files import FILES
from .store.recorded_pair import EXAMPLES, EXPECTATIONS, RecordedPair, recorded_pair
from .words.spec import WORD_SPACES, vocabulary_spec, word_file

SIBLINGS = ("response_tuned", "single_task_tuned")
PAIR_KEYS = (
    "base", "tuned", *SIBLINGS, "prompts", "expectations", "ratings", "max_new_tokens", "single_task", "vocabulary",
    "word_vectors", "chat_date", "chat_template_kwargs", "thinking", "plain_format", "attribute_tokens",
)  # fmt: skip
RECORDED_KEYS = ("evidence", "expectations")
"""Keys of a pair that an evidence file gives, which has the rest."""
SHIPPED_EVIDENCE = "evidence"
"""Folder of the shipped data where evidence files are found by their pair's name."""
DEFAULT_PROMPTS = (PromptSource(path="general"),)
FEWEST_ATTRIBUTED = 5
"""Response tokens that are attributed at least: one for each fifth of the response."""
PAIR_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def load_pairs(path: str | os.PathLike[str]) -> dict[str, ModelPair]:
    """The pairs of a TOML file, by name: ``[pairs.NAME]``, or ``[tool.tuneshift.pairs.NAME]`` in a pyproject.toml.

    Relative paths start from the file's folder; ``~`` and environment variables are expanded. Raises PairError for an
    unreadable file, unknown keys, wrong types, missing paths and a file without pairs.
    """
    path = Path(path)
    pairs = _load(path)
    if not pairs:
        table = "tool.tuneshift.pairs" if path.name == "pyproject.toml" else "pairs"
        raise PairError(f"{path}: no pairs in this file; declare one as [{table}.NAME] with 'base' and 'tuned'.")
    return pairs


def resolve_pairs(
    *,
    base: str | None,
    tuned: tuple[str, ...],
    pairs_file: Path | None,
    names: Sequence[str],
    prompts: Sequence[str],
    here: Path,
    evidence: Sequence[Path] = (),
    store: Path | None = None,
) -> tuple[ModelPair, ...]:
    """The pairs that the options ask for, in the order asked.

    ``base`` makes a pair with each of ``tuned``; ``evidence`` files give one each; ``pairs_file`` gives its pairs, or
    those of ``names``; without any of these, ``[tool.tuneshift.pairs]`` of the nearest pyproject.toml from ``here``
    upward that has it, else the shipped pairs. A name that is declared nowhere may be that of an evidence file that was
    imported into ``store`` or is shipped. ``prompts`` replace every pair's own. Raises PairError for options that
    contradict each other and for unknown names, which are listed; EvidenceFileError for a file that cannot be read.
    """
    if evidence:
        if base is not None or tuned or pairs_file is not None or names:
            raise PairError("--shift-evidence names a pair by itself; leave --base, --tuned, --pairs and --pair out.")
        pairs = tuple(_recorded(path, None) for path in dict.fromkeys(evidence))
        if len({pair.name for pair in pairs}) < len(pairs):
            raise PairError(f"--shift-evidence: two files are both of a pair {pairs[0].name!r}; run them one by one.")
    elif base is not None or tuned:
        pairs = _option_pairs(base, tuned, pairs_file, names)
    else:
        path, known = _declared(pairs_file, here)
        files = _evidence_files(store)
        found = {name: _recorded(files[name], None) for name in names if name not in known and name in files}
        for name in names:
            if name not in known and name not in found:
                raise PairError(f"--pair {name}: {path} has no such pair; {did_you_mean(name, {*known, *files})}.")
        pairs = tuple({**known, **found}[name] for name in dict.fromkeys(names or known))
    return asked(pairs, prompts, "--shift-prompts") if prompts else pairs


def left_out(*, pairs_file: Path | None, names: Sequence[str], here: Path) -> tuple[str, ...]:
    """The pairs of the file that `resolve_pairs` reads which ``names`` leave out; none without names."""
    return tuple(name for name in _declared(pairs_file, here)[1] if name not in names) if names else ()


def asked(pairs: Sequence[ModelPair], prompts: Sequence[str], label: str) -> tuple[ModelPair, ...]:
    """The pairs with these prompt sets in place of their own; messages start with ``label``. Raises PairError."""
    here = ConfigPlace(label=label, folder=Path.cwd())
    sources = tuple(_prompt_source(value, here) for value in prompts)
    return tuple(replace(pair, prompts=sources) for pair in pairs)


def _evidence_files(store: Path | None) -> dict[str, Path]:
    """Evidence files by their pair's name: those shipped, and before them those imported into a store."""
    folders = (fixture(SHIPPED_EVIDENCE), *(() if store is None else (store / FILES,)))
    return {path.name.removesuffix(SUFFIX): path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _recorded(path: Path, expectations: Path | None) -> ModelPair:
    """The pair of an evidence file; ``expectations`` in place of the file's own. Raises EvidenceFileError."""
    found = recorded_pair(path)
    if not PAIR_NAME.fullmatch(found.name):
        raise EvidenceFileError(f"{path}: {found.name!r:.80} is no name of a pair.")
    refs = {
        role: ModelRef(name=str(said["name"]), evidence=path, role=role) for role, said in found.checkpoints.items()
    }
    if unknown := sorted(refs.keys() - {"base", "tuned", *SIBLINGS}):
        raise EvidenceFileError(f"{path}: {unknown[0]!r:.80} is no role of a checkpoint.")
    said, examples = found.declared, found.file(EXAMPLES)
    task = None if said["single_task"] is None or examples is None else SingleTask(
        examples=examples, prompts=said["single_task"]
    )  # fmt: skip
    space = found.file(f"words/{Path(said['word_vectors']).name}")
    if space is None and said["word_vectors"] not in WORD_SPACES and not said["word_vectors"].startswith(EMBEDDED):
        raise EvidenceFileError(
            f"{path}: the word space {said['word_vectors']!r:.80} is not in it, and none has that name."
        )
    return ModelPair(
        name=found.name, base=refs.pop("base"), tuned=refs.pop("tuned"), siblings=refs, prompts=found.prompts,
        expectations=expectations or found.file(EXPECTATIONS), ratings=said["ratings"],
        max_new_tokens=said["max_new_tokens"], attribute_tokens=said["attribute_tokens"], single_task=task,
        vocabulary=said["vocabulary"],
        word_vectors=str(space or said["word_vectors"]), plain_format=said["plain_format"] or "none", recorded=found,
    )  # fmt: skip


def _declared(pairs_file: Path | None, here: Path) -> tuple[Path, dict[str, ModelPair]]:
    if pairs_file is not None:
        return pairs_file, load_pairs(pairs_file)
    for folder in folders_upward(here):
        project = folder / "pyproject.toml"
        if project.is_file() and (pairs := _load(project)):
            return project, pairs
    shipped = fixture("pairs.toml")
    return shipped, load_pairs(shipped)


def _load(path: Path) -> dict[str, ModelPair]:
    try:
        document = parse_toml(path.read_bytes())
    except FileNotFoundError as error:
        raise PairError(f"pair file {path} does not exist.") from error
    except OSError as error:
        raise PairError(f"pair file {path} cannot be read ({error.strerror}).") from error
    except MalformedError as error:
        raise PairError(f"pair file {path}: {error}.") from error
    place = ConfigPlace(label=str(path), folder=path.absolute().parent)
    if path.name == "pyproject.toml":
        tool = document.get("tool", {})
        document = tool.get("tuneshift", {}) if isinstance(tool, dict) else {}
        place = replace(place, label=f"{path}, [tool.tuneshift]")
    tables = place.table(document, ("pairs",)).get("pairs", {})
    place.at("'pairs'").typed(tables, dict)
    at_file = replace(place, label=str(path))
    return {name: _pair(name, table, at_file.at(f"pair {name!r}")) for name, table in tables.items()}


def _pair(name: str, value: Any, place: ConfigPlace) -> ModelPair:
    if not PAIR_NAME.fullmatch(name):
        place.fail("a pair's name has letters, digits, '.', '_' and '-' only, as it becomes part of test ids")
    if fault := fault_of_name(name):
        place.fail(f"the name {fault}")
    if isinstance(value, dict) and "evidence" in value:
        return _recorded_by_file(name, place.table(value, RECORDED_KEYS), place)
    table = place.table(value, PAIR_KEYS)
    for role in ("base", "tuned"):
        if role not in table:
            place.fail(f"{role!r} is missing; a pair names its base and its tuned checkpoint")
    refs = {role: checkpoint_of(table[role], place.at(role)) for role in ("base", "tuned", *SIBLINGS) if role in table}
    sources = _prompts(table.get("prompts"), place.at("prompts"))
    recorded = [role for role, ref in refs.items() if ref.evidence is not None]
    if recorded and not sources:
        place.fail(f"{recorded[0]!r} is recorded evidence; 'prompts' names the prompt set that it was recorded on")
    expectations, ratings = table.get("expectations"), table.get("ratings")
    at = place.at("expectations")
    base, tuned = _distinct(refs.pop("base"), refs.pop("tuned"), table)
    return ModelPair(
        name=name,
        base=base,
        tuned=tuned,
        siblings=refs,
        prompts=sources or DEFAULT_PROMPTS,
        expectations=None if expectations is None else at.path(at.typed(expectations, str)),
        ratings=None if ratings is None else place.at("ratings").typed(ratings, str),
        max_new_tokens=_tokens(table.get("max_new_tokens"), place.at("max_new_tokens"), 1),
        attribute_tokens=_tokens(table.get("attribute_tokens"), place.at("attribute_tokens"), FEWEST_ATTRIBUTED),
        single_task=_single_task(table.get("single_task"), place.at("single_task")),
        vocabulary=vocabulary_spec(table.get("vocabulary"), place.at("vocabulary")),
        word_vectors=word_file(table.get("word_vectors"), place.at("word_vectors")),
        chat_date=chat_day(table.get("chat_date"), place.at("chat_date")),
        chat_template_kwargs=chat_variables(table.get("chat_template_kwargs", {}), place.at("chat_template_kwargs")),
        thinking=thinking_tags(table.get("thinking"), place.at("thinking")),
        plain_format=chat_template(table.get("plain_format"), place.at("plain_format")),
    )


def _recorded_by_file(name: str, table: Mapping[str, Any], place: ConfigPlace) -> ModelPair:
    """The pair of the evidence file that a pair file names, under the name that it has there."""
    file = place.at("evidence").typed(table["evidence"], str)
    given = table.get("expectations")
    at = place.at("expectations")
    found = _recorded(place.at("evidence").path(file), None if given is None else at.path(at.typed(given, str)))
    return replace(found, name=name)


def _single_task(value: Any, place: ConfigPlace) -> SingleTask | None:
    if value is None:
        return None
    table = place.table(value, ("examples", "prompts"))
    for key in ("examples", "prompts"):
        if key not in table:
            place.fail(f"{key!r} is missing; a single task has 'examples' (JSONL) and 'prompts' (a shell pattern)")
        place.at(key).typed(table[key], str)
    return SingleTask(examples=place.existing(table["examples"], "examples"), prompts=table["prompts"])


def _tokens(value: Any, place: ConfigPlace, fewest: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < fewest:
        place.fail(f"a number of tokens of at least {fewest} is wanted, got {value!r}")
    return value


def _distinct(base: ModelRef, tuned: ModelRef, table: Mapping[str, Any]) -> tuple[ModelRef, ModelRef]:
    """Both checkpoints, named as the user wrote them where their short names are the same."""
    if base.name != tuned.name:
        return base, tuned
    written = [
        value if isinstance(value, str) else value.get("adapter") or value.get("model") or value["evidence"]
        for value in (table["base"], table["tuned"])
    ]
    return replace(base, name=written[0]), replace(tuned, name=written[1])


def _prompts(value: Any, place: ConfigPlace) -> tuple[PromptSource, ...]:
    if value is None:
        return ()
    place.typed(value, list)
    if not value:
        place.fail("the list is empty; leave it out for the shipped set 'general'")
    return tuple(_prompt_source(item, place) for item in value)


def _prompt_source(value: Any, place: ConfigPlace) -> PromptSource:
    if isinstance(value, str):
        value = {"path": value}
    table = place.table(value, ("path", "groups"))
    if "path" not in table:
        place.fail("a prompt set's table has a 'path' (a JSONL file or a shipped set)")
    path = place.typed(table["path"], str)
    groups = place.at("groups").typed(table.get("groups", {}), dict)
    for name, pattern in groups.items():
        place.at(f"groups, {name!r}").typed(pattern, str)
    if names_a_file(path):
        path = str(place.existing(path, "prompt set"))
    return PromptSource(path=path, groups=groups)


def _option_pairs(
    base: str | None, tuned: tuple[str, ...], pairs_file: Path | None, names: Sequence[str]
) -> tuple[ModelPair, ...]:
    if base is None or not tuned:
        given, other = ("--base", "--tuned") if base is not None else ("--tuned", "--base")
        raise PairError(f"{given} is given without {other}; a pair needs both.")
    if pairs_file is not None or names:
        other = "--pairs" if pairs_file is not None else "--pair"
        raise PairError(f"{other} and --base/--tuned exclude each other: they name pairs in two ways.")
    if repeated := sorted({text for text in tuned if tuned.count(text) > 1}):
        raise PairError(
            f"--tuned={repeated[0]} is given {tuned.count(repeated[0])} times and makes one pair; give it once."
        )
    first = checkpoint_ref(base, "--base")
    others = {text: checkpoint_ref(text, "--tuned") for text in tuned}
    pairs = []
    for text, name in _pair_names(base, first, others).items():
        refs = _distinct(first, others[text], {"base": base, "tuned": text})
        pairs.append(ModelPair(name=name, base=refs[0], tuned=refs[1], prompts=DEFAULT_PROMPTS))
    return tuple(pairs)


def _pair_names(base: str, first: ModelRef, others: Mapping[str, ModelRef]) -> dict[str, str]:
    """A name for the pair of ``base`` with each tuned checkpoint: both their names without what lies above them.

    A pair keeps the name that it has alone, unless others would share it: then each takes in as many folders above its
    tuned checkpoint as tell them apart. A baseline knows a pair by its name.
    """
    names = {text: _pair_name(*_short_names(base, first, text, ref)) for text, ref in others.items()}
    shared = [text for text in names if list(names.values()).count(names[text]) > 1]
    paths = {text: path_parts(str(others[text].model)) for text in shared}
    for depth in range(1, max(map(len, paths.values()), default=0) + 1):
        if len(set(names.values())) == len(names):
            break
        names |= {text: _pair_name(first.name.rpartition("/")[2], *path[-depth:]) for text, path in paths.items()}
    if len(set(names.values())) == len(names):
        return names
    raise PairError(
        f"--tuned {' and '.join(shared)}: these make pairs that no name tells apart; leave a repeated one out, or "
        "name the pairs in a pair file."
    )


def _short_names(base: str, first: ModelRef, text: str, other: ModelRef) -> list[str]:
    """Last parts of both checkpoints' names, or the last two where these are the same."""
    short = [ref.name.rpartition("/")[2] for ref in (first, other)]
    return short if short[0] != short[1] else ["-".join(path_parts(written)[-2:]) for written in (base, text)]


def _pair_name(*parts: str) -> str:
    """Letters of every script stay, in one form each, so that checkpoints named in one are told apart."""
    return re.sub(r"[^\w.-]+", "-", normalize("NFC", "-".join(parts))).strip("-.") or "pair"


def pair_of(base: str | ModelRef, tuned: str | ModelRef, *, labels: tuple[str, str] = ("base", "tuned")) -> ModelPair:
    """The pair of two checkpoints, named after both, on the shipped prompts; ``labels`` begin messages.

    Raises PairError for a text that names no checkpoint.
    """
    given = (base, tuned)
    refs = [
        one if isinstance(one, ModelRef) else checkpoint_ref(one, label)
        for one, label in zip(given, labels, strict=True)
    ]
    texts = [one if isinstance(one, str) else str(one.model or one.evidence) for one in given]
    name = _pair_name(*_short_names(texts[0], refs[0], texts[1], refs[1]))
    first, second = _distinct(refs[0], refs[1], {"base": texts[0], "tuned": texts[1]})
    return ModelPair(name=name, base=first, tuned=second, prompts=DEFAULT_PROMPTS)


@dataclass(frozen=True, kw_only=True)
class SingleTask:
    """What the sibling ``single_task_tuned`` was tuned on: a JSONL file of examples (prompt, response), and a shell
    pattern on the ``task`` field (or else the id) of prompts that are of that task."""

    examples: Path
    prompts: str


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """A base and a tuned checkpoint, siblings by role, and what the pair is asked."""

    name: str
    base: ModelRef
    tuned: ModelRef
    siblings: Mapping[str, ModelRef] = field(default_factory=lambda: NOTHING)
    prompts: tuple[PromptSource, ...] = ()
    expectations: Path | None = None
    ratings: str | None = None
    max_new_tokens: int | None = None
    """Longest response in tokens; None takes the run's."""
    attribute_tokens: int | None = None
    """Evenly spaced response tokens that importance is taken for; None takes the run's."""
    single_task: SingleTask | None = None
    vocabulary: str | None = None
    word_vectors: str | None = None
    """Words and word space of the measures that read weights, as the options spell them; None takes the run's."""
    chat_date: date | None = None
    """The day that chat templates are rendered on; None takes `prompts.chat.CHAT_DATE`."""
    chat_template_kwargs: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    """Variables of the chat template."""
    thinking: tuple[str, ...] | None = None
    """Texts that begin and end a model's thoughts; empty: none count as thoughts. None: as the tuned tokenizer says."""
    plain_format: str | None = None
    """What the base is asked in for the reading in a plain format: a Jinja file, a template or "none" for the prompt
    alone; None takes `prompts.chat.PLAIN_FORMAT`."""
    recorded: RecordedPair | None = None
    """The evidence file that stands for all checkpoints; None where these have weights or evidence of their own."""

    @property
    def checkpoints(self) -> tuple[ModelRef, ...]:
        """Base, tuned and siblings, in this order."""
        return (self.base, self.tuned, *self.siblings.values())

    @property
    def roles(self) -> dict[str, ModelRef]:
        """The checkpoints by role: ``base``, ``tuned``, and the siblings that the pair names."""
        return {"base": self.base, "tuned": self.tuned, **self.siblings}

    def checkpoint(self, role: str) -> ModelRef | None:
        """The checkpoint of a role: ``base``, ``tuned`` or a sibling's; None where the pair names no such sibling."""
        return {"base": self.base, "tuned": self.tuned, **self.siblings}.get(role)
