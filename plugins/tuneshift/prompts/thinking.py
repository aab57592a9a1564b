"""Thoughts that a model writes before its answer: which tags enclose them, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.files import tokenizer_folder
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..readings import Readings, tokenizer_content

Ids = npt.NDArray[np.int64]
Tags = tuple[str, str]
"""Texts that begin and end thoughts."""

KNOWN: tuple[Tags, ...] = (
    ("<think>", "</think>"),  # Qwen3, SmolLM3, DeepSeek-R1 and its distills, Phi-4-reasoning
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
)


@dataclass(frozen=True, kw_only=True)
class Thoughts:
    """The thoughts at the head of a response: ``tokens``, tags included, and whether they ``ended`` before it did."""

    tokens: int
    ended: bool


def thinking_tags(ref: ModelRef, readings: Readings) -> Tags | None:
    """The tags of a checkpoint's thoughts: those whose end is an added token of its tokenizer; None without."""

    def make() -> list[str] | None:
        tokenizer = load_tokenizer(ref)
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        return next(([start, end] for start, end in KNOWN if end in added), None)

    kept = Readings() if ref.trust_remote_code else readings
    found = kept.read(tokenizer_content(tokenizer_folder(ref)), make)
    return None if found is None else (found[0], found[1])


def thoughts_in(response: Ids, after_user: Ids, tokenizer: Any, tags: Sequence[str] | None) -> Thoughts | None:
    """The thoughts that a response begins with; None for a response without.

    response: [token], without its end token. after_user: [token], the prompt's ids after the user's text, where a
    template may have begun (or begun and ended) thoughts. They run to the last end of thinking; a response that has
    none, or begins to think again, is nothing but thoughts and has not answered.
    """
    if tags is None:
        return None
    start, end = (np.asarray(tokenizer(tag, add_special_tokens=False)["input_ids"], dtype=np.int64) for tag in tags)
    starts, ends = _places(response, start), _places(response, end)
    last = ends[-1] + len(end) if ends else 0
    opened = max(_places(after_user, start), default=-1) > max(_places(after_user, end), default=-1)
    if any(at >= last for at in starts) or (opened and not ends):
        return Thoughts(tokens=len(response), ended=False)
    return Thoughts(tokens=last, ended=True) if ends else None


def _places(ids: Ids, part: Ids) -> list[int]:
    """Where a sequence of tokens begins in another."""
    if len(part) == 0 or len(part) > len(ids):
        return []
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(part))
    return np.flatnonzero((windows == part).all(axis=1)).tolist()
