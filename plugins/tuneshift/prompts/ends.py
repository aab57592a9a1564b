"""Where a response ends: the same tokens for every checkpoint that is asked in one format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..checkpoints.ends import own_ends
from ..checkpoints.files import locate, tokenizer_folder
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..plain import Json
from ..readings import Readings, tokenizer_content
from .chat import Chat, ChatFormat, chat_params, end_token

if TYPE_CHECKING:
    from ..checkpoints.loading import Checkpoint

CONFIGURATIONS = ("config.json", "generation_config.json")


def response_ends(
    ref: ModelRef, together: Sequence[ModelRef], chat: ChatFormat | None, readings: Readings
) -> tuple[int, ...]:
    """Ids that end a response of ``ref``, ascending, asked in ``chat`` beside the checkpoints ``together``.

    The token that the chat template puts after an assistant's turn, and those that end a response of any of the
    checkpoints, by their text where another's vocabulary has it: checkpoints that are compared stop at the same tokens,
    whatever their configurations say. Remembered by content. Raises as `load_tokenizer` and `locate`.
    """
    members = (ref, *(other for other in together if other != ref and other.evidence is None))

    def make() -> Json:
        tokenizer = load_tokenizer(ref)
        # What the template ends a turn with, where the tokenizer knows it as one token.
        found = {*own_ends(ref, tokenizer), end_token(tokenizer, chat)}
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        for other in members[1:]:
            theirs = load_tokenizer(other)
            texts: list[Any] = theirs.convert_ids_to_tokens(own_ends(other, theirs))
            found |= {vocabulary[text] for text in texts if text in vocabulary}
        return sorted(i for i in found if i is not None)

    kept = Readings() if any(member.trust_remote_code for member in members) else readings
    return tuple(kept.read([chat_params(chat), *map(_content, members)], make))


def chat_ends(checkpoint: Checkpoint, chat: Chat) -> list[int]:
    """Ids that end a response of one checkpoint asked in a chat format: its own and the template's end of a turn."""
    from ..checkpoints.decoding import loaded_ends

    end = end_token(checkpoint.tokenizer, chat)
    return sorted({*loaded_ends(checkpoint), *([] if end is None else [end])})


def _content(ref: ModelRef) -> Json:
    folder = locate(ref)
    files = [folder / name for name in CONFIGURATIONS]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None for file in files]
    return [tokenizer_content(tokenizer_folder(ref)), *hashes]
