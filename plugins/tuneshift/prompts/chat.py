"""Chat templates: which one, how a prompt is rendered with it, and where the user's text lies in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.files import tokenizer_folder
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..errors import PairError, PromptError
from ..plain import NOTHING, Json
from ..readings import Readings, tokenizer_content
from .prompt import Span
from .rendering import render_limited

NO_TEMPLATE = "none"
OUTSIDE = (-1, -1)
SENTINEL = "tuneshift0sentinel0content"
"""Stands for the user's text to find where a template puts it: no white space to strip, no control token."""

CHAT_DATE = date(2024, 7, 26)
"""The day that templates are rendered on where a pair names none: the one that Llama 3.1's falls back to."""

RESERVED = (
    "messages", "tools", "documents", "add_generation_prompt", "chat_template", "conversation", "tokenize",
    "continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs", "sanitize_control_tokens", "strftime_now", "date_string",
)  # fmt: skip
"""Names of a template's variables that a pair cannot set: they are rendering's own."""

PLAIN_FORMAT = (
    "{{ bos_token }}{% for m in messages %}{{ 'Question: ' if m['role'] == 'user' else 'Answer: ' }}{{ m['content'] }}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""A base asked without role tags: ``Question: ...``, a line end, ``Answer:``, as pages of questions are written and as
lm-evaluation-harness asks base models. Nothing marks the answer's end but the tokenizer's own end token."""

PAPER_FORMAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""The tags that arXiv:2409.14254 asks all its models in."""

_DIRECTIVES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """All that decides how a prompt is put into a chat: a Jinja template, the day that it sees and its variables.

    ``variables``: plain JSON, as ``enable_thinking``. The day is a template's ``date_string`` ("26 Jul 2024") and what
    its ``strftime_now`` tells, at midnight; a template that names neither is ``dated`` False and the same on any day.
    """

    template: str
    day: date = CHAT_DATE
    variables: Mapping[str, Json] = field(default_factory=lambda: NOTHING)

    @property
    def dated(self) -> bool:
        """Whether the rendered text may depend on the day."""
        return "strftime_now" in self.template or "date_string" in self.template


Chat = ChatFormat | str | None
"""A chat format; a template alone, for the usual day and without variables; None for the plain prompt."""


def chat_params(chat: ChatFormat | None) -> dict[str, Json]:
    """A chat format as parameters of a measure: ``chat_template``, ``chat_date`` (None where the text has none) and
    ``chat_template_kwargs``."""
    return {
        "chat_template": None if chat is None else chat.template,
        "chat_date": chat.day.isoformat() if chat is not None and chat.dated else None,
        "chat_template_kwargs": {} if chat is None else dict(chat.variables),
    }


def chat_of(params: Mapping[str, Json]) -> ChatFormat | None:
    """The chat format that `chat_params` made plain."""
    if params["chat_template"] is None:
        return None
    day = params.get("chat_date")
    return ChatFormat(
        template=params["chat_template"],
        day=CHAT_DATE if day is None else date.fromisoformat(day),
        variables=params.get("chat_template_kwargs", NOTHING),
    )


def resolve_chat_template(ref: ModelRef, tokenizer: Any) -> str | None:
    """The Jinja template that a checkpoint's prompts are put into; None for the plain prompt.

    ``ref.chat_template`` None takes the tokenizer's own (None where it has none), ``"none"`` the plain prompt, else a
    file's contents or the template itself. Raises PairError for anything else.
    """
    if ref.chat_template is None:
        own = getattr(tokenizer, "chat_template", None)
        if isinstance(own, dict):
            if "default" not in own:
                raise PairError(
                    f"{ref.name}: its tokenizer has the chat templates {', '.join(sorted(own))} and none named "
                    "'default'; set chat_template to a Jinja file, or to 'none' for plain prompts."
                )
            own = own["default"]
        return None if own is None else str(own)
    return given_template(ref.chat_template, f"{ref.name}: chat_template")


def given_template(given: str, label: str) -> str | None:
    """The Jinja template that a user names: ``"none"`` (None), a file's contents or the template itself.

    Raises PairError for anything else, its message beginning with ``label``.
    """
    if given == NO_TEMPLATE:
        return None
    if "{{" in given or "{%" in given:
        return given
    path = Path(given)
    if not os.path.isfile(path):
        raise PairError(
            f"{label} {given!r} is neither a file nor a Jinja template; "
            f"accepted: a path, a template with '{{{{' or '{{%', or '{NO_TEMPLATE}' for plain prompts."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{label} {path} cannot be read: {error}.") from error


def read_chat_template(ref: ModelRef, readings: Readings) -> str | None:
    """`resolve_chat_template` of a checkpoint with its own tokenizer, remembered by their content."""
    if ref.chat_template is not None or ref.trust_remote_code:
        return resolve_chat_template(ref, load_tokenizer(ref))
    content = tokenizer_content(tokenizer_folder(ref))
    template = readings.read(content, lambda: resolve_chat_template(ref, load_tokenizer(ref)))
    return None if template is None else str(template)


def same_format(ref: ModelRef, first: ChatFormat | None, second: ChatFormat | None, readings: Readings) -> bool:
    """Whether two formats write a request alike and end its answer on one token; remembered by content."""
    if first is None or second is None or first == second:
        return first == second

    def compared() -> Json:
        tokenizer = load_tokenizer(ref)
        return [[_render(SENTINEL, tokenizer, chat), end_token(tokenizer, chat)] for chat in (first, second)]

    kept = Readings() if ref.trust_remote_code else readings
    content = [tokenizer_content(tokenizer_folder(ref)), chat_params(first), chat_params(second)]
    one, other = kept.read(content, compared)
    return bool(one == other)


def prompt_text(text: str, tokenizer: Any, chat: Chat) -> str:
    """What `encode` makes tokens of: the prompt in its chat format. Raises as `encode` does for the template."""
    return text if chat is None else user_turn(text, tokenizer, chat).source


def bare_ids(tokenizer: Any, chat: Chat) -> npt.NDArray[np.int64]:
    """Token ids of a prompt that asks nothing, [token] int64: what a response's unconditional probability stands on.

    With a chat template its format around an empty user turn; without one the token that begins a text, else the one
    that ends the text before (as lm-eval does); empty where the tokenizer has neither. Raises PairError for a template
    that does not render.
    """
    if chat is not None:
        ids = tokenizer(_render("", tokenizer, chat), add_special_tokens=False)["input_ids"]
    else:
        ids = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None][:1]
    return np.asarray(ids, dtype=np.int64)


def end_token(tokenizer: Any, chat: Chat) -> int | None:
    """Id of the token that ends a response: the one that the chat template puts after an assistant's turn.

    Where there is no template, or it puts none there (some templates leave that to training), or the tokenizer does not
    know it as one token, the tokenizer's end token; None where it has none.
    """
    after = "" if chat is None else _after_response(tokenizer, chat)
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


def user_turn(text: str, tokenizer: Any, chat: ChatFormat | str) -> UserTurn:
    before, *after = _render(SENTINEL, tokenizer, chat).split(SENTINEL)
    if len(after) != 1:
        raise PromptError(
            f"the chat template writes the user's text {len(after)} times, so its instruction cannot be located; "
            "set chat_template to one that writes it once and unchanged, or to 'none' for plain prompts."
        )
    source = _render(text, tokenizer, chat)
    body = source[len(before) : len(source) - len(after[0])]
    leading = len(text) - len(text.lstrip())
    kept = {text.rstrip(): 0, text.lstrip(): leading, text.strip(): leading, text: 0}  # as it is, or stripped
    if source == before + body + after[0] and body in kept:
        return UserTurn(source=source, start=len(before), end=len(before) + len(body), stripped=kept[body])
    raise PromptError(
        f"the chat template changes the prompt {text[:40]!r} by more than stripping it, so its instruction cannot be "
        "located; set chat_template to one that keeps the text, or to 'none' for plain prompts."
    )


def render_chat(
    turns: Sequence[Mapping[str, str]], tokenizer: Any, chat: ChatFormat | str, *, opened: bool = True
) -> str:
    """A chat as text; ``opened`` for the assistant to speak next. Raises PairError for turns that it cannot render."""
    given = ChatFormat(template=chat) if isinstance(chat, str) else chat
    # What a template does not name, it is not given: templates that are the same on any day stay as they are.
    day = {"date_string": given.day.strftime("%d %b %Y")} if given.dated else {}
    template = _clock(given.day) + given.template if given.dated else given.template
    return render_limited(turns, tokenizer, template, opened=opened, variables={**day, **given.variables})


def _clock(day: date) -> str:
    """Jinja text that stops a template's clock: ``strftime_now`` as a macro, before any global of that name.

    transformers passes templates no functions. The line break belongs to the tag, as its Jinja settings trim it.
    """
    moment = datetime(day.year, day.month, day.day)
    forms = {f"%{sign}{letter}": moment.strftime(f"%{sign}{letter}") for letter in _DIRECTIVES for sign in ("", "-")}
    replaced = "".join(f"|replace({form!r}, {text!r})" for form, text in forms.items())
    escaped = "|replace('%%', '\\x01')", "|replace('\\x01', '%')"
    return f"{{% macro strftime_now(form) %}}{{{{ form{escaped[0]}{replaced}{escaped[1]} }}}}{{% endmacro %}}\n"


def _render(content: str, tokenizer: Any, chat: ChatFormat | str) -> str:
    return render_chat([{"role": "user", "content": content}], tokenizer, chat)


def _after_response(tokenizer: Any, chat: ChatFormat | str) -> str:
    """What a template writes after the assistant's text; nothing where it cannot render such a turn."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": SENTINEL}]
    try:
        _, said, after = render_chat(turns, tokenizer, chat, opened=False).rpartition(SENTINEL)
    except PairError:
        return ""
    return after if said else ""
