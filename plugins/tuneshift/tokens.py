"""Tokens of a prompt and where they lie in its characters: instruction masks, chat formats, SentencePiece pieces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CheckpointError, PairError, PromptError
from .records import ModelRef, Span

Offsets = npt.NDArray[np.int64]
NO_TEMPLATE = "none"
OUTSIDE = (-1, -1)
SPACE_MARKS = "▁Ġ"
"""What SentencePiece and byte-level BPE write for a space."""
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
SENTINEL = "tuneshift0sentinel0content"
"""Stands for the user's text to find where a template puts it: no white space to strip, no control token."""


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


def token_mask(text: str, offsets: npt.NDArray[Any], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Whether each token is an instruction token, [token]: one of its non-space characters lies in a span.

    offsets: [token, 2], [start, end) in characters of ``text``; (-1, -1) never counts.
    """
    counts = np.zeros(len(text) + 1, dtype=np.int64)
    for start, end in spans:
        counts[start + 1 : end + 1] = [not character.isspace() for character in text[start:end]]
    before = np.cumsum(counts)  # [character + 1]: non-space instruction characters before it
    edges = np.clip(np.asarray(offsets, dtype=np.int64).reshape(-1, 2), 0, len(text))
    return np.asarray(before[edges[:, 1]] > before[edges[:, 0]])


def resolve_chat_template(ref: ModelRef, tokenizer: Any) -> str | None:
    """The Jinja template that a checkpoint's prompts are put into; None for the plain prompt.

    ``ref.chat_template`` None takes the tokenizer's own (None where it has none), ``"none"`` the plain prompt, else a
    file's contents or the template itself. Raises PairError for anything else.
    """
    given = ref.chat_template
    if given is None:
        own = getattr(tokenizer, "chat_template", None)
        if isinstance(own, dict):
            if "default" not in own:
                raise PairError(
                    f"{ref.name}: its tokenizer has the chat templates {', '.join(sorted(own))} and none named "
                    "'default'; set chat_template to a Jinja file, or to 'none' for plain prompts."
                )
            own = own["default"]
        return None if own is None else str(own)
    if given == NO_TEMPLATE:
        return None
    if "{{" in given or "{%" in given:
        return given
    path = Path(given)
    if not path.is_file():
        raise PairError(
            f"{ref.name}: chat_template {given!r} is neither a file nor a Jinja template; "
            f"accepted: a path, a template with '{{{{' or '{{%', or '{NO_TEMPLATE}' for plain prompts."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{ref.name}: chat_template {path} cannot be read: {error}.") from error


def encode(text: str, tokenizer: Any, chat_template: str | None) -> EncodedPrompt:
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
    plain = chat_template is None
    turn = _Turn(source=text, start=0, end=len(text)) if plain else _user_turn(text, tokenizer, str(chat_template))
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


def prompt_text(text: str, tokenizer: Any, chat_template: str | None) -> str:
    """What `encode` makes tokens of: the prompt in its chat format. Raises as `encode` does for the template."""
    return text if chat_template is None else _user_turn(text, tokenizer, chat_template).source


def response_ids(response: str, prompt: str, tokenizer: Any, chat_template: str | None) -> npt.NDArray[np.int64]:
    """Token ids of a given response to a prompt, [token] int64, without special tokens and without an end token.

    It is tokenised by itself, so that no token straddles the boundary. Without a chat template it continues the
    prompt's line: unless the prompt ends on white space, its first word there begins with a space.
    """
    glue = " " if chat_template is None and not prompt[-1:].isspace() else ""
    return np.asarray(tokenizer(glue + response, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)


def bare_ids(tokenizer: Any, chat_template: str | None) -> npt.NDArray[np.int64]:
    """Token ids of a prompt that asks nothing, [token] int64: what a response's unconditional probability stands on.

    With a chat template its format around an empty user turn; without one the token that begins a text, else the one
    that ends the text before (as lm-eval does); empty where the tokenizer has neither. Raises PairError for a template
    that does not render.
    """
    if chat_template is not None:
        ids = tokenizer(_render("", tokenizer, chat_template), add_special_tokens=False)["input_ids"]
    else:
        ids = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None][:1]
    return np.asarray(ids, dtype=np.int64)


def end_token(tokenizer: Any, chat_template: str | None) -> int | None:
    """Id of the token that ends a response: the one that the chat template puts after an assistant's turn.

    Where there is no template, or it puts none there (some templates leave that to training), or the tokenizer does not
    know it as one token, the tokenizer's end token; None where it has none.
    """
    after = "" if chat_template is None else _after_response(tokenizer, chat_template)
    ids = tokenizer(after.lstrip(), add_special_tokens=False, verbose=False)["input_ids"] if after.strip() else []
    if ids and (ids[0] in tokenizer.added_tokens_decoder or ids[0] in tokenizer.all_special_ids):
        return int(ids[0])
    return None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)


def sentencepiece_offsets(pieces: Sequence[str], text: str) -> Offsets:
    """Where recorded SentencePiece pieces lie in ``text``: [token, 2], [start, end) in characters.

    ``▁`` is a space, ``<0x0A>`` a byte; every byte of a character gets that whole character. A space that
    SentencePiece put before the first piece is taken off. Raises PromptError, naming the piece, where the pieces do
    not spell the text.
    """
    spelled, places = _spelled(pieces)
    target = text.replace("▁", " ")  # SentencePiece writes both alike
    added = int(spelled == " " + target or (spelled.startswith(" ") and not target.startswith(" ")))
    spelled = spelled[added:]
    if spelled != target:
        at = next((i for i, (a, b) in enumerate(zip(spelled, target, strict=False)) if a != b), None)
        if at is None:
            at = min(len(spelled), len(target))
        index = next((i for i, (_, end) in enumerate(places) if end - added > at), len(pieces) - 1)
        named = f"piece {index} ({pieces[index]!r})" if len(pieces) else "the empty list of pieces"
        raise PromptError(
            f"{named} does not spell the prompt: from character {at} on the pieces have "
            f"{spelled[at : at + 20]!r}, the prompt has {text[at : at + 20]!r}."
        )
    return np.clip(np.asarray(places, dtype=np.int64).reshape(-1, 2) - added, 0, None)


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


def pieces_text(pieces: Sequence[str]) -> str:
    """The text of recorded SentencePiece pieces, without the added first space; a cut character becomes U+FFFD."""
    raw = b"".join(
        bytes([int(piece[3:5], 16)]) if BYTE_PIECE.fullmatch(piece) else piece.replace("▁", " ").encode()
        for piece in pieces
    )
    return raw.decode(errors="replace").removeprefix(" ")


def piece_text(piece: str) -> str:
    """A SentencePiece piece for display: spaces for ``▁``, the character for an ASCII byte, other bytes as they are."""
    match = BYTE_PIECE.fullmatch(piece)
    if match is None:
        return piece.replace("▁", " ")
    byte = int(match[1], 16)
    return chr(byte) if byte < 0x80 else piece


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """The user's text in a rendered chat: [start, end) of ``source``, after ``stripped`` characters that were cut."""

    source: str
    start: int
    end: int
    stripped: int = 0

    def within(self, place: Span) -> Span:
        """A place in ``source`` as one in the user's text; outside it, ``OUTSIDE``."""
        shift = self.stripped - self.start
        start, end = max(place[0], self.start), min(place[1], self.end)
        # An empty place marks the space before it, which is the user's only past the first character.
        held = self.start < start <= self.end if place[0] == place[1] else start < end
        return (start + shift, end + shift) if held else OUTSIDE


def _user_turn(text: str, tokenizer: Any, chat_template: str) -> _Turn:
    before, *after = _render(SENTINEL, tokenizer, chat_template).split(SENTINEL)
    if len(after) != 1:
        raise PromptError(
            f"the chat template writes the user's text {len(after)} times, so its instruction cannot be located; "
            "set chat_template to one that writes it once and unchanged, or to 'none' for plain prompts."
        )
    source = _render(text, tokenizer, chat_template)
    body = source[len(before) : len(source) - len(after[0])]
    leading = len(text) - len(text.lstrip())
    kept = {text.rstrip(): 0, text.lstrip(): leading, text.strip(): leading, text: 0}  # as it is, or stripped
    if source == before + body + after[0] and body in kept:
        return _Turn(source=source, start=len(before), end=len(before) + len(body), stripped=kept[body])
    raise PromptError(
        f"the chat template changes the prompt {text[:40]!r} by more than stripping it, so its instruction cannot be "
        "located; set chat_template to one that keeps the text, or to 'none' for plain prompts."
    )


def _render(content: str, tokenizer: Any, chat_template: str) -> str:
    return _rendered([{"role": "user", "content": content}], tokenizer, chat_template, opened=True)


def _after_response(tokenizer: Any, chat_template: str) -> str:
    """What a template writes after the assistant's text; nothing where it cannot render such a turn."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": SENTINEL}]
    try:
        _, said, after = _rendered(turns, tokenizer, chat_template, opened=False).rpartition(SENTINEL)
    except PairError:
        return ""
    return after if said else ""


def _rendered(turns: Sequence[Mapping[str, str]], tokenizer: Any, chat_template: str, *, opened: bool) -> str:
    """A chat as text; ``opened`` for the assistant to speak next."""
    from jinja2 import TemplateError

    try:
        rendered = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=opened,
            chat_template=chat_template,
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise PairError(f"the chat template cannot be rendered for a single user turn: {error}.") from error
    return str(rendered)


def _repaired(pieces: Sequence[str], places: Sequence[Span], source: str) -> list[Span]:
    """Offsets where every token of one byte has its own character and a bare space never has its neighbour's.

    The tokenizers library gives each byte of a fused unknown run the whole run, and an invented leading space the
    character that follows it.
    """
    repaired = list(places)
    for first, last in _byte_runs(pieces):
        start, end = places[first][0], places[last - 1][1]
        spelled = bytes(int(piece[3:5], 16) for piece in pieces[first:last]).decode(errors="replace")
        if spelled == source[start:end]:
            repaired[first:last] = _byte_places(spelled, start)
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


def _byte_runs(pieces: Sequence[str]) -> list[Span]:
    """[first, last) of every run of consecutive byte pieces."""
    is_byte = [False, *(BYTE_PIECE.fullmatch(piece) is not None for piece in pieces), False]
    edges = [index for index in range(len(pieces) + 1) if is_byte[index] != is_byte[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _byte_places(text: str, start: int) -> list[Span]:
    """The place of each UTF-8 byte's character, for text that begins at character ``start``."""
    return [(at, at + 1) for at, character in enumerate(text, start=start) for _ in character.encode()]


def _spelled(pieces: Sequence[str]) -> tuple[str, list[Span]]:
    """The text that the pieces spell, and each piece's place in it."""
    text, places = "", []
    ends = dict(_byte_runs(pieces))
    index = 0
    while index < len(pieces):
        if index in ends:
            raw = bytes(int(piece[3:5], 16) for piece in pieces[index : ends[index]])
            try:
                part = raw.decode()
            except UnicodeDecodeError as error:
                bad = index + error.start
                raise PromptError(f"piece {bad} ({pieces[bad]!r}) is not part of a UTF-8 character.") from error
            places += _byte_places(part, len(text))
            index = ends[index]
        else:
            part = pieces[index].replace("▁", " ")
            places.append((len(text), len(text) + len(part)))
            index += 1
        text += part
    return text, places
