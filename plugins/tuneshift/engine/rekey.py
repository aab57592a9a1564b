"""Evidence of the first keys under those of today, where what they lacked can be proved.

Version 1 of generation, likelihood and attribution held neither the day nor the variables that a chat template saw, nor
where a response ends, nor (for a checkpoint's own response) the generation behind an attribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..checkpoints.ends import own_ends
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..errors import PairError, StoreError
from ..measures.catalogue import ATTRIBUTION, GENERATION, LIKELIHOOD, MEASURES
from ..measures.params import CONTRAST, LOCAL, RULES, TEXT_ALONE
from ..pairs import ModelPair
from ..plain import Json
from ..prompts.chat import chat_of, end_token
from ..prompts.prompt import PromptSet
from ..prompts.thinking import thoughts_in
from ..prompts.tokens import encode
from ..store.evidence import Evidence, EvidenceKey
from ..store.store import Store
from ..store.upkeep import Stored
from .copies import write_copy
from .plan import Planner, Task
from .settings import ResponseMode, Settings

ADDED = (
    "chat_date", "chat_template_kwargs", "prompt_variant", "ends", "thinking", "thoughts", "attributed_rows",
    "attributed_response_tokens", "derivative_dtype",
)  # fmt: skip
"""Parameters that version 1 did not have; ``author`` it had for another checkpoint's response alone."""

NEEDS = (
    GENERATION.name, GENERATION.name + LOCAL, GENERATION.name + RULES, GENERATION.name + RULES + TEXT_ALONE,
    *(f"{GENERATION.name}{RULES}-{rule}" for rule in ("end", "uniform", "diversity")), LIKELIHOOD.name,
    ATTRIBUTION.name, ATTRIBUTION.name + CONTRAST,
)  # fmt: skip


Asked = tuple[ModelPair, Sequence[PromptSet]]
"""A pair with its prompt sets, read."""


@dataclass(frozen=True, kw_only=True)
class Rekeyed:
    """An older set of the store, and what became of it: ``kept`` under the key of today, or why it is not."""

    stored: Stored
    kept: EvidenceKey | None = None
    reason: str = ""


def outdated(stored: Stored) -> bool:
    """Whether a set's measure has another version today, so that no run reads it."""
    return stored.measure in MEASURES and stored.key.version < MEASURES[stored.measure].version


def rekey(store: Store, pairs: Sequence[Asked], settings: Settings) -> Iterator[Rekeyed]:
    """Write older evidence of the pairs' checkpoints under the keys of today where it is proved to be the same.

    One result per outdated set, which itself stays. Proved: the template names no date, the pair sets no variables, no
    response holds a token that ends it now, and none holds thoughts. Raises as the planner and the store do.
    """
    older = [stored for stored in store.list() if outdated(stored)]
    tasks = _older_tasks(pairs, settings, older)
    for stored in older:
        task = tasks.get(stored.key.digest)
        if task is None:
            yield Rekeyed(stored=stored, reason="it is of no checkpoint, prompts and settings of the pairs named")
            continue
        reason = _doubt(task, store) if stored.complete else "it is not whole"
        if reason is None:
            reason = _copied(store, older_key(task), task)
        yield Rekeyed(stored=stored, kept=None if reason else task.key, reason=reason or "")


def older_key(task: Task) -> EvidenceKey:
    """The key that version 1 of a task's measure had."""
    params = {name: value for name, value in task.params.items() if name not in ADDED}
    author: Json = params.pop("author", None)
    if author is not None and params["response"] != "own":
        assert task.depends_on is not None
        params["author"] = older_key(task.depends_on).digest
    return replace(task.key, params=params, version=1)


def _older_tasks(pairs: Sequence[Asked], settings: Settings, older: Sequence[Stored]) -> Mapping[str, Task]:
    """Tasks of today by the digest that they had, under every dtype and longest response that the store has.

    Of attributions those of all tokens, which is what version 1 took; they serve requests of fewer.
    """
    settings = replace(settings, attribute_template="yes", attribute_tokens=None)
    pairs = [(replace(pair, attribute_tokens=None), sets) for pair, sets in pairs]
    dtypes = sorted({stored.key.dtype for stored in older})
    lengths: set[int | None] = {stored.key.params.get("max_new_tokens") for stored in older}
    responses: tuple[ResponseMode, ...] = ("own", "reference", "tuned")
    found: dict[str, Task] = {}
    for dtype, length, response in product(dtypes, lengths, responses):
        planner = Planner(settings=replace(settings, dtype=dtype, max_new_tokens=length, response=response))
        for pair, sets in pairs:
            roles = ("base", "tuned", *pair.siblings)
            for role, need, prompts in product(roles, NEEDS, sets):
                try:
                    task = planner.task(pair, role, need, prompts)
                except PairError:
                    if pair.tuned.evidence is None:
                        raise
                    continue  # recorded responses, which nothing else can be measured on
                if task is not None:
                    found.setdefault(older_key(task).digest, task)
    return found


def _doubt(task: Task, store: Store) -> str | None:
    """Why older evidence may differ from what would be measured today; None where it is proved to be the same."""
    if task.params["chat_date"] is not None:
        return "its template names the date, and the day it saw is not known"
    if task.params["chat_template_kwargs"]:
        return "it was asked without the pair's chat_template_kwargs"
    if task.measure.name == LIKELIHOOD.name:
        return None
    if task.measure.name == ATTRIBUTION.name:
        return None if task.depends_on is None else _doubt(task.depends_on, store)
    return _doubt_of_responses(task, store)


def _doubt_of_responses(task: Task, store: Store) -> str | None:
    try:
        evidence = store.read(older_key(task))
    except StoreError:
        return "the responses that it rests on are not whole in the store"
    tokenizer = load_tokenizer(task.ref)
    ends = set(task.params["ends"]) - set(own_ends(task.ref, tokenizer))
    running_on = sum(bool(ends & set(np.asarray(ids).tolist())) for ids in _responses(evidence))
    if running_on:
        return f"{running_on} of its responses run on past a token that ends a response now"
    if (task.params.get("rules") or {}).get("end") and _rule_end_moved(task.ref, task.params):
        return "its rule 'end' scored another end token"
    tags = task.params["thinking"]
    chat = chat_of(task.params)
    prompts = {unit.id: unit for unit in task.units}
    for item in evidence.items if tags is not None else ():
        if item.left_out is None:
            asked = encode(getattr(prompts[item.id], "prompt", ""), tokenizer, chat)
            if thoughts_in(item.arrays["response_ids"], asked.after_text, tokenizer, tags) is not None:
                return "its responses hold thoughts, which are kept apart now"
    return None


def _responses(evidence: Evidence) -> Iterator[Json]:
    return (item.arrays["response_ids"] for item in evidence.items if item.left_out is None)


def _rule_end_moved(ref: ModelRef, params: Mapping[str, Json]) -> bool:
    tokenizer = load_tokenizer(ref)
    return bool(end_token(tokenizer, chat_of(params)) != tokenizer.eos_token_id)


def _copied(store: Store, old: EvidenceKey, task: Task) -> str | None:
    """Copies a set under its key of today; why it cannot be, for a damaged one."""
    try:
        evidence = store.read(old)
    except StoreError as error:
        return str(error)
    write_copy(store, evidence, task, {"rekeyed_from": old.digest})
    return None
