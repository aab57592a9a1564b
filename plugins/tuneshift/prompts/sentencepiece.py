"""Character offsets of SentencePiece tokens, whose tokenizers give none."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from .prompt import Span

Offsets = npt.NDArray[np.int64]
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


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


def byte_runs(pieces: Sequence[str]) -> list[Span]:
    """[first, last) of every run of consecutive byte pieces."""
    is_byte = [False, *(BYTE_PIECE.fullmatch(piece) is not None for piece in pieces), False]
    edges = [index for index in range(len(pieces) + 1) if is_byte[index] != is_byte[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def byte_places(text: str, start: int) -> list[Span]:
    """The place of each UTF-8 byte's character, for text that begins at character ``start``."""
    return [(at, at + 1) for at, character in enumerate(text, start=start) for _ in character.encode()]


def _spelled(pieces: Sequence[str]) -> tuple[str, list[Span]]:
    """The text that the pieces spell, and each piece's place in it."""
    text, places = "", []
    ends = dict(byte_runs(pieces))
    index = 0
    while index < len(pieces):
        if index in ends:
            raw = bytes(int(piece[3:5], 16) for piece in pieces[index : ends[index]])
            try:
                part = raw.decode()
            except UnicodeDecodeError as error:
                bad = index + error.start
                raise PromptError(f"piece {bad} ({pieces[bad]!r}) is not part of a UTF-8 character.") from error
            places += byte_places(part, len(text))
            index = ends[index]
        else:
            part = pieces[index].replace("▁", " ")
            places.append((len(text), len(text) + len(part)))
            index += 1
        text += part
    return text, places
