"""Annotators that ask a language model: behind an endpoint, or a local instruction-tuned checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..chat.answers import Progress, answers_folder
from ..chat.checkpoint import LocalChat
from ..chat.endpoint import ChatEndpoint, ChatRequest, parse_endpoint
from ..parse import MalformedError, parse_json
from ..plain import Json, digest
from .base import HF, LEVELS, TASKS, Label, Lists

SEEDS = (0, 1, 2, 3, 4)
"""Five, as the issue asks, so that an endpoint's own variation is seen and counts as a random effect."""
TEMPERATURE = 0.7
"""Above 0, as otherwise five seeds would give one answer five times."""
MAX_TOKENS = 120
"""Twice the longest well-formed answer; more is chatter, which cannot be read anyway."""
INSTRUCTION = """\
Below are words that one unit of a language model writes most strongly. Some of them may be noise; judge by what most of
them have in common.

1. Which of these user tasks do the words suit? Name all that apply, or none.
   writing: composing or editing texts such as essays, letters, stories or poems
   coding: writing or understanding computer programs
   math: solving mathematical problems
   translation: moving text from one human language into another
2. On which linguistic level are the words alike? Name the one that explains most, or abstain.
   phonology: they sound alike (rhymes, same onset)
   morphology: they share an affix or are forms of one word
   syntax: they share a grammatical role (prepositions, pronouns, modal verbs, adverbs) but no topic
   semantics: they share a topic or meaning
   abstain: nothing holds them together

Answer with one line of JSON and nothing else, in this form:
{"tasks": ["writing"], "level": "semantics"}
For no task give an empty list. The level is phonology, morphology, syntax, semantics or abstain.

Words: """
AGAIN = """\
Sort this list of words. Give exactly one JSON object with two keys. "tasks" is a list with any of "writing", "coding",
"math", "translation" that the words are typical of, and is [] if they are typical of none. "level" is one of
"phonology" (alike in sound), "morphology" (same affix or word family), "syntax" (same grammatical role),
"semantics" (same topic), "abstain" (nothing in common). No explanation, no code fence.

The list: """
"""The second wording, for answers that could not be read."""
PROMPTS = digest([INSTRUCTION, AGAIN])
_ALIASES = {"maths": "math", "mathematics": "math", "solving math problems": "math", "code": "coding",
            "programming": "coding", "translating": "translation"}  # fmt: skip
_NOTHING = ("abstain", "none", "null", "")


def parse_label(answer: str) -> Label | None:
    """The label in a model's answer, or None where there is none to be read.

    Taken is the first JSON object in it, whatever stands around it, that has ``tasks`` and ``level`` with known names;
    case, common synonyms, a single name instead of a list and the name "none" are understood. An unknown name makes the
    answer unreadable: guessing what was meant is not reading.
    """
    for found in re.finditer(r"\{[^{}]*\}", answer):
        try:
            value = parse_json(found[0])
        except MalformedError:
            continue
        if isinstance(value, dict) and {"tasks", "level"} <= set(value):
            return _label(value["tasks"], value["level"])
    return None


def _label(tasks: Json, level: Json) -> Label | None:
    given = tasks if isinstance(tasks, list) else [tasks]
    names = {_name(task) for task in given} - set(_NOTHING)
    chosen = _name(level)
    if None in names or not names <= set(TASKS) or chosen not in (*LEVELS, *_NOTHING):
        return None
    return Label(tasks=frozenset(n for n in names if n is not None), level=chosen if chosen in LEVELS else None)


def _name(value: Json) -> str | None:
    if value is None:
        return ""
    if not isinstance(value, str):
        return None
    name = value.strip().lower()
    return _ALIASES.get(name, name)


@dataclass(frozen=True, kw_only=True)
class EndpointAnnotator:
    """Labels lists by a model at an OpenAI-compatible endpoint, with five seeds.

    One request per list and seed, several at once. An answer that cannot be read is asked again in another wording,
    and after that counts as failed (None). Raises EndpointError as `ChatEndpoint.ask_all`; answers so far are kept.
    """

    endpoint: ChatEndpoint
    progress: Progress | None = None

    @property
    def identity(self) -> Mapping[str, Json]:
        """Model, server, temperature and the prompts' hash: not the key."""
        return {"annotator": "openai", **self.endpoint.identity, "prompts": PROMPTS, "max_tokens": MAX_TOKENS}

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS

    def notes(self) -> list[str]:
        """That a server may change under one name."""
        return [
            f"Labels by {self.endpoint.model} at {self.endpoint.identity['server']}: the name says nothing of the "
            "weights behind it, which a provider may exchange; the kept answers are what the verdicts rest on."
        ]

    def annotate(self, lists: Lists, seed: int) -> list[Label | None]:
        """A label per list; None where two answers could not be read, and for an empty list."""
        return _labels(lists, lambda questions: self._answers(questions, seed))

    def _answers(self, questions: Sequence[str], seed: int) -> list[str]:
        requests = [
            ChatRequest(messages=[{"role": "user", "content": question}], seed=seed, max_tokens=MAX_TOKENS)
            for question in questions
        ]
        return self.endpoint.ask_all(requests, self.progress)


def endpoint_annotator(spec: str, *, cache: Path | None, progress: Progress | None) -> EndpointAnnotator:
    """The annotator of ``openai:MODEL@URL``; ``cache`` None keeps answers in the user's cache folder."""
    model, url = parse_endpoint(spec)
    endpoint = ChatEndpoint(model=model, url=url, cache=answers_folder(cache), temperature=TEMPERATURE)
    return EndpointAnnotator(endpoint=endpoint, progress=progress)


@dataclass(frozen=True, kw_only=True)
class CheckpointAnnotator:
    """Labels lists by a local instruction-tuned checkpoint, greedily: one seed.

    Raises as `LocalChat.ask_all`; what was answered is not asked again.
    """

    chat: LocalChat

    @property
    def identity(self) -> Mapping[str, Json]:
        """The checkpoint's identity and the prompts' hash."""
        return {"annotator": "hf", **self.chat.identity, "prompts": PROMPTS}

    @property
    def seeds(self) -> tuple[int, ...]:
        return (0,)

    def notes(self) -> list[str]:
        """Nothing beyond its agreement with the labelled lists."""
        return []

    def annotate(self, lists: Lists, seed: int) -> list[Label | None]:
        """A label per list; None where two answers could not be read, the prompt is too long, or the list is empty."""
        return _labels(lists, self.chat.ask_all)


def checkpoint_annotator(spec: str, *, cache: Path | None, device: str = "auto") -> CheckpointAnnotator:
    """The annotator of ``hf:CHECKPOINT``; ``cache`` None keeps answers in the user's cache folder."""
    chat = LocalChat(
        spec=spec.removeprefix(HF),
        asked_as="annotator hf",
        cache=answers_folder(cache),
        max_tokens=MAX_TOKENS,
        device=device,
    )
    return CheckpointAnnotator(chat=chat)


def _labels(lists: Lists, ask: Callable[[Sequence[str]], Sequence[str]]) -> list[Label | None]:
    """A label per list from the answers to its question, in the second wording where the first cannot be read."""
    labels: list[Label | None] = [None] * len(lists)
    wanted = [i for i, words in enumerate(lists) if words]
    for wording in (INSTRUCTION, AGAIN):
        answers = ask([wording + ", ".join(lists[i]) for i in wanted])
        for i, answer in zip(wanted, answers, strict=True):
            labels[i] = parse_label(answer)
        wanted = [i for i in wanted if labels[i] is None]
    return labels
