"""Chat templates: which one, how a prompt is rendered with it, and where the user's text lies in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.files import tokenizer_folder
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..errors import PairError, PromptError
from ..readings import Readings, tokenizer_content
from .prompt import Span
from .rendering import render_chat

NO_TEMPLATE = "none"
OUTSIDE = (-1, -1)
SENTINEL = "tuneshift0sentinel0content"
"""Stands for the user's text to find where a template puts it: no white space to strip, no control token."""


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
    if not os.path.isfile(path):
        raise PairError(
            f"{ref.name}: chat_template {given!r} is neither a file nor a Jinja template; "
            f"accepted: a path, a template with '{{{{' or '{{%', or '{NO_TEMPLATE}' for plain prompts."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{ref.name}: chat_template {path} cannot be read: {error}.") from error


def read_chat_template(ref: ModelRef, readings: Readings) -> str | None:
    """`resolve_chat_template` of a checkpoint with its own tokenizer, remembered by their content."""
    if ref.chat_template is not None or ref.trust_remote_code:
        return resolve_chat_template(ref, load_tokenizer(ref))
    content = tokenizer_content(tokenizer_folder(ref))
    template = readings.read(content, lambda: resolve_chat_template(ref, load_tokenizer(ref)))
    return None if template is None else str(template)


def prompt_text(text: str, tokenizer: Any, chat_template: str | None) -> str:
    """What `encode` makes tokens of: the prompt in its chat format. Raises as `encode` does for the template."""
    return text if chat_template is None else user_turn(text, tokenizer, chat_template).source


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


@dataclass(frozen=True, kw_only=True)
class UserTurn:
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


def user_turn(text: str, tokenizer: Any, chat_template: str) -> UserTurn:
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
        return UserTurn(source=source, start=len(before), end=len(before) + len(body), stripped=kept[body])
    raise PromptError(
        f"the chat template changes the prompt {text[:40]!r} by more than stripping it, so its instruction cannot be "
        "located; set chat_template to one that keeps the text, or to 'none' for plain prompts."
    )


def _render(content: str, tokenizer: Any, chat_template: str) -> str:
    return render_chat([{"role": "user", "content": content}], tokenizer, chat_template, opened=True)


def _after_response(tokenizer: Any, chat_template: str) -> str:
    """What a template writes after the assistant's text; nothing where it cannot render such a turn."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": SENTINEL}]
    try:
        _, said, after = render_chat(turns, tokenizer, chat_template, opened=False).rpartition(SENTINEL)
    except PairError:
        return ""
    return after if said else ""
