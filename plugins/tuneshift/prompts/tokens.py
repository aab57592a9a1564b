"""Tokens of a prompt and where they lie in its characters: instruction masks, chat formats, SentencePiece pieces."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError
from .chat import OUTSIDE, Chat, UserTurn, user_turn
from .prompt import Span
from .sentencepiece import byte_places, byte_runs

if TYPE_CHECKING:
    from .sentencepiece import Offsets
SPACE_MARKS = "▁Ġ"
"""What SentencePiece and byte-level BPE write for a space."""
WHITE_SPACE = frozenset(string.whitespace)
"""ASCII's. A no-break space is a character as any other, as in the release of arXiv:2310.00492, which goes by bytes."""
FORMAT_LABEL = re.compile(r"^[ \t]*(?:Input|Output):", re.MULTILINE)
"""Names of a prompt's parts at a line's beginning, as Self-Instruct writes them: neither instruction nor context."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedPrompt:
    """A prompt as a model sees it. ``tokens`` are for display, ``ids`` for the model.

    ids: [token] int64. offsets: [token, 2] int64, [start, end) in the prompt's own characters; (-1, -1) for special
    tokens and for those of the chat template. An empty offset inside the prompt is a token that holds only a space.
    """

    ids: npt.NDArray[np.int64]
    tokens: tuple[str, ...]
    offsets: Offsets

    @property
    def in_text(self) -> npt.NDArray[np.bool_]:
        """[token]: whether the token belongs to the user's text and not to the template or the special tokens."""
        return np.asarray(self.offsets[:, 0] >= 0)

    @property
    def after_text(self) -> npt.NDArray[np.int64]:
        """Ids behind the user's text, where the template opens the assistant's turn, [token] int64."""
        inside = np.flatnonzero(self.in_text)
        return self.ids[inside[-1] + 1 if len(inside) else 0 :]


def token_mask(text: str, offsets: npt.NDArray[Any], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Whether each token is an instruction token, [token]: one of its non-space characters lies in a span.

    offsets: [token, 2], [start, end) in characters of ``text``; (-1, -1) never counts. Space is `WHITE_SPACE`.
    """
    before = _told(text, tuple(spans))
    edges = np.clip(np.asarray(offsets, dtype=np.int64).reshape(-1, 2), 0, len(text))
    return np.asarray(before[edges[:, 1]] > before[edges[:, 0]])


@functools.lru_cache(maxsize=4096)
def _told(text: str, spans: tuple[Span, ...]) -> npt.NDArray[np.int64]:
    """Non-space characters of the spans before each character, [character + 1]. Asked for again by every reading."""
    counts = np.zeros(len(text) + 1, dtype=np.int64)
    for start, end in spans:
        counts[start + 1 : end + 1] = [character not in WHITE_SPACE for character in text[start:end]]
    before = np.cumsum(counts)
    before.setflags(write=False)  # it is shared
    return before


def nonspace_mask(text: str, offsets: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each token holds a non-space character of the user's text, [token]; arguments as `token_mask`'s."""
    return token_mask(text, offsets, [(0, len(text))])


def context_mask(text: str, offsets: npt.NDArray[Any], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Whether each token is context, [token]: no instruction token, and with a non-space character of the user's text
    that is no part of a `FORMAT_LABEL`. Arguments as `token_mask`'s."""
    edges = [0, *(edge for label in FORMAT_LABEL.finditer(text) for edge in label.span()), len(text)]
    unlabelled = token_mask(text, offsets, list(zip(edges[::2], edges[1::2], strict=True)))
    return unlabelled & ~token_mask(text, offsets, spans)


def encode(text: str, tokenizer: Any, chat: Chat) -> EncodedPrompt:
    """Token ids of a prompt with each token's place in its characters.

    Without a template the tokenizer adds its special tokens as it does by default. With one, the text is the user's
    turn, the assistant's turn is opened, and the template alone decides on special tokens, as in transformers.
    Raises CheckpointError for a tokenizer without offsets, PairError for a template that does not render, PromptError
    where the template changed the text so that it cannot be found again.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which cannot say where a token lies in the text; "
            "give the checkpoint a tokenizer.json (load it with AutoTokenizer on a machine with sentencepiece and "
            "tiktoken, then save_pretrained)."
        )
    plain = chat is None
    turn = UserTurn(source=text, start=0, end=len(text)) if chat is None else user_turn(text, tokenizer, chat)
    batch = tokenizer(turn.source, add_special_tokens=plain, return_offsets_mapping=True, verbose=False)
    ids: list[int] = batch["input_ids"]
    pieces: list[str] = tokenizer.convert_ids_to_tokens(ids)
    added = [sequence is None for sequence in batch.sequence_ids(0)]
    places = _repaired(pieces, [(int(start), int(end)) for start, end in batch["offset_mapping"]], turn.source)
    offsets = [
        OUTSIDE if is_added else place if plain else turn.within(place)
        for place, is_added in zip(places, added, strict=True)
    ]
    return EncodedPrompt(
        ids=np.asarray(ids, dtype=np.int64),
        tokens=tuple(
            piece if is_added else _shown(index, pieces, places, ids, turn.source, tokenizer)
            for index, (piece, is_added) in enumerate(zip(pieces, added, strict=True))
        ),
        offsets=np.asarray(offsets, dtype=np.int64).reshape(-1, 2),
    )


def response_ids(response: str, prompt: str, tokenizer: Any, chat: Chat) -> npt.NDArray[np.int64]:
    """Token ids of a given response to a prompt, [token] int64, without special tokens and without an end token.

    It is tokenised by itself, so that no token straddles the boundary. Without a chat template it continues the
    prompt's line: unless the prompt ends on white space, its first word there begins with a space.
    """
    glue = " " if chat is None and not prompt[-1:].isspace() else ""
    return np.asarray(tokenizer(glue + response, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)


def display_tokens(ids: Sequence[int] | npt.NDArray[np.int64], tokenizer: Any) -> list[str]:
    """Tokens for display, each decoded alone and with the space that decoding would strip; no text to slice from."""
    numbers = [int(number) for number in ids]
    pieces: list[str] = tokenizer.convert_ids_to_tokens(numbers)
    shown = []
    for number, piece in zip(numbers, pieces, strict=True):
        text = str(tokenizer.decode([number], skip_special_tokens=False))
        spaced = piece.startswith(tuple(SPACE_MARKS)) and not text[:1].isspace()
        shown.append(" " + text if spaced else text)
    return shown


def _repaired(pieces: Sequence[str], places: Sequence[Span], source: str) -> list[Span]:
    """Offsets where every token of one byte has its own character and a bare space never has its neighbour's.

    The tokenizers library gives each byte of a fused unknown run the whole run, and an invented leading space the
    character that follows it.
    """
    repaired = list(places)
    for first, last in byte_runs(pieces):
        start, end = places[first][0], places[last - 1][1]
        spelled = bytes(int(piece[3:5], 16) for piece in pieces[first:last]).decode(errors="replace")
        if spelled == source[start:end]:
            repaired[first:last] = byte_places(spelled, start)
    for index, (piece, (start, end)) in enumerate(zip(pieces, repaired, strict=True)):
        blank = piece and not piece.strip(SPACE_MARKS)
        if blank and source[start:end].strip() and source[start:end] != piece:
            repaired[index] = (start, start)
    return repaired


def _shown(
    index: int, pieces: Sequence[str], places: Sequence[Span], ids: Sequence[int], source: str, tokenizer: Any
) -> str:
    """A token for display: its characters with its space; a part of a character as the tokenizer decodes it."""
    start, end = places[index]
    if start == end:
        return " " if pieces[index].startswith(tuple(SPACE_MARKS)) else ""
    shared = (index > 0 and places[index - 1][1] > start) or (index + 1 < len(places) and places[index + 1][0] < end)
    if shared:
        return str(tokenizer.decode([ids[index]]))
    spaced = pieces[index].startswith(tuple(SPACE_MARKS)) and source[start - 1 : start].isspace()
    return (" " if spaced else "") + source[start:end]
