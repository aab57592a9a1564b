"""What a model is tuned on: examples from a JSONL file, as token ids with a label on every token of the response."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import CheckpointError, PairError, UsageError
from ..parse import MalformedError, parse_json
from ..prompts.chat import end_token, render_chat
from ..prompts.tokens import response_ids

Message = dict[str, str]

HOW = ("instruction", "response", "single-task")
"""Kinds of tuning in arXiv:2409.14254: on instructions and responses, on responses alone, on one narrow task."""
PROMPT_FIELDS = ("prompt", "instruction")
RESPONSE_FIELDS = ("response", "reference", "output", "completion")
ROLES = ("system", "user", "assistant")
NOT_LEARNED = -100
"""Label of a token that does not count in the loss (PyTorch's ``ignore_index``)."""
ACCEPTED = (
    "one JSON object a line with 'prompt' (or 'instruction', with an optional 'input') and 'response' (or 'reference', "
    "'output', 'completion') as strings, or with 'messages', a list of {'role', 'content'} that ends with the "
    "assistant's"
)
PAPER_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""The format of arXiv:2409.14254 (Tulu's): ``<|user|>``, the instruction and ``<|assistant|>``, each on its line."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """The turns before a response, the response, and the line of the file that they come from."""

    prompt: tuple[Message, ...]
    response: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A file's examples in file order, with the SHA-256 of its bytes."""

    path: Path
    sha256: str
    rows: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A sequence: ids [token], and labels [token], the id itself where it is learned, else ``NOT_LEARNED``."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learned(self) -> int:
        """Number of tokens that count in the loss; the first of a sequence never does, as nothing predicts it."""
        return sum(label != NOT_LEARNED for label in self.labels[1:])


def read_examples(path: Path, how: str) -> Examples:
    """The examples of a JSONL file for a kind of tuning; ``docs/tuning.md`` has the form.

    ``how`` "response" replaces whatever comes before the response by one empty user turn, and needs no prompt in the
    file. Raises UsageError, naming file and line and what is accepted, for a file that is missing, empty or not in the
    form, and for empty prompts and responses.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a JSONL file with {ACCEPTED}.") from error
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: byte {error.start} is not UTF-8; save the file as UTF-8.") from error
    rows = tuple(
        _Line(path, number).example(line, how)
        for number, line in enumerate(text.split("\n"), start=1)  # splitlines would also break at U+2028
        if line.strip()
    )
    if not rows:
        raise UsageError(f"{path}: no examples in this file; accepted is {ACCEPTED}.")
    return Examples(path=path, sha256=hashlib.sha256(raw).hexdigest(), rows=rows)


def paper_template(tokenizer: Any) -> str:
    """The paper's format as a chat template, led by the BOS token where the tokenizer begins its texts with one."""
    first: list[int] = tokenizer("a")["input_ids"][:1]
    begins = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    return "{{ bos_token }}" * begins + PAPER_TEMPLATE


def learned_end(tokenizer: Any, chat_template: str | None) -> int:
    """Id of the token that a response is taught to end on: `tokens.end_token`. Raises CheckpointError without one."""
    end = end_token(tokenizer, chat_template)
    if end is None:
        raise CheckpointError(
            "The tokenizer has no end token, so a tuned model could not learn to stop; set `eos_token` in the "
            "checkpoint's tokenizer_config.json."
        )
    return end


def token_row(example: Example, tokenizer: Any, chat_template: str | None, *, end: int, where: str) -> TokenRow:
    """The example as a sequence: its prompt in the chat format, its response, the token ``end``.

    Prompt and response are tokenised apart, so that no token lies across their boundary and the prompt's ids are those
    of inference. Without a template the prompt is plain text and the response goes on after a space. Raises UsageError,
    led by ``where``, for turns that the format cannot hold.
    """
    before = _prompt_ids(example, tokenizer, chat_template, where)
    response = response_ids(example.response, example.prompt[-1]["content"], tokenizer, chat_template).tolist()
    learned = (*response, end)
    return TokenRow(ids=(*before, *learned), labels=(*[NOT_LEARNED] * len(before), *learned))


def token_rows(
    examples: Examples, tokenizer: Any, chat_template: str | None, *, max_length: int
) -> tuple[list[TokenRow], int]:
    """The sequences of at most ``max_length`` tokens in file order, and how many longer ones were left out.

    Raises UsageError where all are longer, and as `learned_end` and `token_row`.
    """
    end = learned_end(tokenizer, chat_template)
    rows = [
        token_row(example, tokenizer, chat_template, end=end, where=f"{examples.path}:{example.line}")
        for example in examples.rows
    ]
    fitting = [row for row in rows if len(row.ids) <= max_length]
    if not fitting:
        shortest = min(len(row.ids) for row in rows)
        raise UsageError(
            f"{examples.path}: none of its {len(rows)} examples fits into {max_length} tokens, the shortest has "
            f"{shortest}; raise --max-length as far as the model's context goes, or shorten the examples."
        )
    return fitting, len(rows) - len(fitting)


def _prompt_ids(example: Example, tokenizer: Any, chat_template: str | None, where: str) -> Sequence[int]:
    if chat_template is None:
        if len(example.prompt) != 1 or example.prompt[0]["role"] != "user":
            raise UsageError(f"{where}: a plain prompt is one user turn; give --chat-template to write several.")
        plain: list[int] = tokenizer(example.prompt[0]["content"], verbose=False)["input_ids"]
        return plain
    try:
        text = render_chat(example.prompt, tokenizer, chat_template)
    except PairError as error:
        raise UsageError(f"{where}: {error}") from error
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


class _Line:
    """One line of a data file: turns it into an Example or says, with file and line, why it cannot be one."""

    def __init__(self, path: Path, number: int) -> None:
        self.number, self.where = number, f"{path}:{number}"

    def fail(self, message: str) -> NoReturn:
        raise UsageError(f"{self.where}: {message}; accepted is {ACCEPTED}.")

    def example(self, line: str, how: str) -> Example:
        try:
            value = parse_json(line)
        except MalformedError as error:
            self.fail(str(error))
        if not isinstance(value, dict):
            self.fail(f"a JSON {type(value).__name__} where an object is wanted")
        prompt, response = self._messages(value) if "messages" in value else self._fields(value, how)
        if not response.strip():
            self.fail("the response is empty")
        if how == "response":
            prompt = (_user(""),)
        elif not any(turn["role"] == "user" and turn["content"].strip() for turn in prompt):
            self.fail("the prompt is empty")
        return Example(prompt=prompt, response=response, line=self.number)

    def _fields(self, value: Mapping[str, Any], how: str) -> tuple[tuple[Message, ...], str]:
        response = self._string(value, self._one_of(value, RESPONSE_FIELDS))
        if how == "response":
            return (), response
        text = self._string(value, self._one_of(value, PROMPT_FIELDS))
        added = self._string(value, "input") if value.get("input") else ""
        return (_user(f"{text}\n\n{added}" if added.strip() else text),), response

    def _messages(self, value: Mapping[str, Any]) -> tuple[tuple[Message, ...], str]:
        turns = value["messages"]
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            self.fail("'messages' is no list of objects")
        for turn in turns:
            if turn.get("role") not in ROLES:
                self.fail(f"the role of a message is one of {', '.join(ROLES)}, got {turn.get('role')!r}")
            self._string(turn, "content")
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            self.fail("'messages' has no last turn of the assistant after another turn")
        clean = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        return tuple(clean[:-1]), clean[-1]["content"]

    def _one_of(self, value: Mapping[str, Any], names: Sequence[str]) -> str:
        found = [name for name in names if value.get(name) is not None]
        if not found:
            self.fail(f"no {' or '.join(map(repr, names))}; got {', '.join(map(repr, value)) or 'no fields'}")
        if len(found) > 1:
            self.fail(f"{' and '.join(map(repr, found))} say the same thing twice; keep one of them")
        return found[0]

    def _string(self, value: Mapping[str, Any], name: str) -> str:
        text = value.get(name)
        if not isinstance(text, str):
            self.fail(f"{name!r} is a string, got {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.fail(f"{name!r} holds half of a surrogate pair at character {error.start}")
        return text


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
