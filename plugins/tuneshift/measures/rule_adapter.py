"""The rule adapter of arXiv:2409.14254: a base model times a few hand-written rules about the next token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessor

from ..errors import MeasureError
from ..prompts.tokens import EncodedPrompt
from .adapter_rules import DiversityRule, RuleSettings

Ids = npt.NDArray[np.int64]

NOTHING = -1
"""Stands where a row has fewer present tokens than the longest; no token has this id."""


def single_tokens(tokenizer: Any, texts: Iterable[str]) -> dict[str, int]:
    """The token id of each text that is exactly one token; texts of none or several are left out.

    The vocabulary is asked, not the encoder: an encoder that puts a space before every text would never give the token
    of the bare one. A text is looked up as it stands, in byte-level spelling, with SentencePiece's space and as a byte
    piece, in this order; a piece counts where it decodes to the text behind another token, so that a letter which one
    scheme uses as a mark (``Ġ``) is not taken for one in another.
    """
    before = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = _decoded(tokenizer, before)
    found: dict[str, int] = {}
    for text in texts:
        for piece in _spellings(text):
            token = tokenizer.convert_tokens_to_ids(piece)
            if token is not None and _decoded(tokenizer, [*before, token]) == start + text:
                found[text] = int(token)
                break
    return found


def turn_as_released(prompt: EncodedPrompt) -> Ids:
    """Ids of a prompt from the user's first token to the prompt's end, [token] int64.

    The paper's diversity rule is about tokens of the user's turn; its release counts from there on, so the tokens of
    the assistant's tag count too. These are its ids. ``prompt.ids[prompt.in_text]`` are those of the user's text alone.
    """
    first = np.flatnonzero(prompt.in_text)
    return prompt.ids[first[0] :] if len(first) else prompt.ids[:0]


class RuleAdapter(LogitsProcessor):
    """Product of experts of a base model and rules: log p(token) + score(token) for every next token.

    A transformers LogitsProcessor for ONE batch, padded on the left to its longest prompt, with or without KV cache. It
    returns new scores, log_softmax(logits) + rules [row, vocab], float32 or wider, not normalised: greedy decoding and
    beams take them as they are, sampling's own softmax makes them the product's distribution. transformers applies
    temperature, top-k and top-p after it, so these act on the product.

    ``prompts``: per row [token] ids without padding. ``user_turns``: per row the ids that count as present from the
    start for the diversity rule, or None for the whole prompt; padding never counts. ``end_token``: what the end rule
    scores; None takes the tokenizer's. The position t of the end rule is the number of response tokens so far.

    Nothing is carried from step to step but which row is which prompt, and that is checked against ``input_ids`` in
    every call: rows may be repeated (beams), reordered or left out between calls, a call may come afresh in the midst
    of a response. A step costs O(row * vocab) for the softmax and O(row * length) for the rules. What a row gets after
    its end token is not meant to be used.

    ``tokens`` are the uniform rule's texts with their ids, ``missing`` its texts that are no single token here.

    Raises ValueError for prompts and turns that do not fit each other or, in a call, ``input_ids``; MeasureError where
    the end rule is on and there is no end token. Source: arXiv:2409.14254.
    """

    def __init__(
        self,
        settings: RuleSettings,
        tokenizer: Any,
        prompts: Sequence[Ids],
        *,
        user_turns: Sequence[Ids | None] | None = None,
        end_token: int | None = None,
    ) -> None:
        turns: Sequence[Ids | None] = [None] * len(prompts) if user_turns is None else user_turns
        self.settings = settings
        self._prompts = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
        _check_prompts(self._prompts, turns)
        self._width = max(map(len, self._prompts))
        texts = {} if settings.uniform is None else settings.uniform.scores
        self.tokens: Mapping[str, int] = single_tokens(tokenizer, texts) if texts else {}
        self.missing: tuple[str, ...] = tuple(text for text in texts if text not in self.tokens)
        self._end_token = tokenizer.eos_token_id if end_token is None else end_token
        if settings.end is not None and self._end_token is None:
            raise MeasureError(
                "the tokenizer has no end token, which the rule 'end' scores; name the id that ends a response "
                "(end_token=...) or leave the rule out (its table in the TOML, or settings.without('end'))."
            )
        counted = [p if t is None else np.asarray(t) for p, t in zip(self._prompts, turns, strict=True)]
        self._turns = _padded([np.unique(ids) for ids in counted])  # [prompt, entry]
        self._head = torch.empty(0, dtype=torch.int64)  # [row, position], the prompts as last seen
        self._turn_of_row = self._turns[:0]  # [row, entry], on the device of the last call

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of the next token [row, vocab]; ``input_ids`` [row, position], ``scores`` logits [row, vocab]."""
        t = input_ids.shape[1] - self._width
        if t < 0:
            raise ValueError(
                f"input_ids are {input_ids.shape[1]} tokens wide, but the longest of the adapter's prompts has "
                f"{self._width}; give the adapter the prompts of this batch."
            )
        turns = self._present_turns(input_ids[:, : self._width])
        logprobs = scores.log_softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        if self.settings.end is not None:
            logprobs[:, self._end_token] += self.settings.end.at(t)
        if self.settings.uniform is not None:
            ids = torch.tensor([*self.tokens.values()], dtype=torch.int64, device=scores.device)
            added = [self.settings.uniform.scores[text] for text in self.tokens]
            logprobs[:, ids] += torch.tensor(added, dtype=logprobs.dtype, device=scores.device)
        if self.settings.diversity is not None:
            _score_present_(logprobs, torch.cat([turns, input_ids[:, self._width :]], dim=1), self.settings.diversity)
        return logprobs

    def _present_turns(self, head: Tensor) -> Tensor:
        """Ids of each row's user turn [row, entry]; looked up anew only where the rows changed since the last call."""
        if self._head.device != head.device or not torch.equal(self._head, head):
            self._turn_of_row = self._turns[self._matched(head.cpu().numpy())].to(head.device)
            self._head = head.clone()
        return self._turn_of_row

    def _matched(self, head: Ids) -> list[int]:
        """The prompt that each row ends with: in the given order, each as often as the next, or else the longest."""
        repeats, rest = divmod(len(head), len(self._prompts))
        ordered = [row // repeats for row in range(len(head))] if repeats and not rest else []
        if ordered and all(_ends_with(head[row], self._prompts[i]) for row, i in enumerate(ordered)):
            return ordered
        longest_first = sorted(range(len(self._prompts)), key=lambda i: -len(self._prompts[i]))
        rows = []
        for number, row in enumerate(head):
            found = next((i for i in longest_first if _ends_with(row, self._prompts[i])), None)
            if found is None:
                raise ValueError(
                    f"row {number} of input_ids holds none of the adapter's {len(self._prompts)} prompts before "
                    f"position {self._width}; give it the prompts of this batch, padded on the left to the longest."
                )
            rows.append(found)
        return rows


def _score_present_(logprobs: Tensor, present: Tensor, rule: DiversityRule) -> None:
    """Adds the rule's score, once, to every id in ``present`` [row, entry], which `NOTHING` fills up."""
    if not present.shape[1]:
        return
    largest = present.amax(dim=1, keepdim=True)  # `NOTHING` only where a row has no present token at all
    # Every entry of a row writes the same number for the same id, so it does not matter which write comes last.
    ids = torch.where(present == NOTHING, largest, present).clamp(min=0)
    logprobs.scatter_(1, ids, logprobs.gather(1, ids) + rule.score * (largest != NOTHING))


def _padded(turns: Sequence[Ids]) -> Tensor:
    """Ids by row, [row, entry], filled up with `NOTHING`."""
    table = torch.full((len(turns), max(map(len, turns))), NOTHING, dtype=torch.int64)
    for row, ids in enumerate(turns):
        table[row, : len(ids)] = torch.as_tensor(ids)
    return table


def _ends_with(row: Ids, prompt: Ids) -> bool:
    return bool(np.array_equal(row[len(row) - len(prompt) :], prompt))


def _check_prompts(prompts: Sequence[Ids], turns: Sequence[Ids | None]) -> None:
    if not prompts:
        raise ValueError("an adapter needs the prompts of its batch, at least one; got none.")
    if len(prompts) != len(turns):
        raise ValueError(f"{len(prompts)} prompts need as many user turns, one each; got {len(turns)}.")
    first: dict[bytes, int] = {}
    for i, (prompt, turn) in enumerate(zip(prompts, turns, strict=True)):
        if not len(prompt):
            raise ValueError(f"prompt {i} has no tokens; at least one is needed, a BOS token will do.")
        twin = first.setdefault(prompt.tobytes(), i)
        if _as_set(turns[twin]) != _as_set(turn):
            raise ValueError(f"prompts {twin} and {i} have the same tokens but other user turns; give both the same.")


def _as_set(turn: Ids | None) -> set[int] | None:
    return None if turn is None else {int(token) for token in turn}


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _spellings(text: str) -> Iterator[str]:
    """How vocabularies may spell a text that is one token."""
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    yield text
    yield "".join(piece for piece, _ in byte_level.pre_tokenize_str(text))
    yield text.replace(" ", "▁")
    if len(text.encode()) == 1:
        yield f"<0x{ord(text):02X}>"
