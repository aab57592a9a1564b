"""A local instruction-tuned checkpoint that is asked: greedily, each question once, its answers kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.refs import ModelRef
from ..errors import StoreError
from ..plain import Json, digest
from .answers import Answers

if TYPE_CHECKING:
    from ..checkpoints.loading import Checkpoint


@dataclass(frozen=True, kw_only=True)
class LocalChat:
    """A checkpoint asked in its tokenizer's own chat template, or with the plain question where there is none.

    ``spec``: a local folder, ``embedded:NAME`` or hub id. ``asked_as``: what it is to the user, for messages, as
    ``judge hf``. ``cache``: a folder that may be shared by processes. ``max_tokens``: of an answer; ``dtype`` and
    ``device`` as in `checkpoints.load`.

    It is loaded for the first question that has no kept answer, and stays in memory until another checkpoint is loaded:
    once in a run, where nothing else is measured meanwhile.
    """

    spec: str
    asked_as: str
    cache: Path
    max_tokens: int
    dtype: str | None = None
    device: str = "auto"
    _known: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def ref(self) -> ModelRef:
        """The checkpoint as pairs name theirs. Raises PairError for what is no checkpoint."""
        from ..checkpoint_specs import checkpoint_ref

        return checkpoint_ref(self.spec, self.asked_as)

    @cached_property
    def identity(self) -> Mapping[str, Json]:
        """What decides an answer beside the question: weights and tokenizer, type computed in, template, its limit.

        ``chat_template`` is the hash of the chat format (`chat_params`), None where there is none. Raises PairError and
        CheckpointError.
        """
        from ..checkpoints.fingerprint import fingerprint
        from ..checkpoints.loading import resolve_dtype
        from ..checkpoints.tokenizers import load_tokenizer
        from ..prompts.chat import ChatFormat, chat_params, resolve_chat_template

        template = resolve_chat_template(replace(self.ref, chat_template=None), load_tokenizer(self.ref))
        return {
            "checkpoint": fingerprint(self.ref),
            "dtype": resolve_dtype(self.ref, self.dtype),
            "chat_template": None if template is None else digest(chat_params(ChatFormat(template=template))),
            "max_tokens": self.max_tokens,
        }

    def ask_all(self, questions: Sequence[str]) -> list[str]:
        """The answers in order; empty where a question leaves no room in the context.

        Raises PairError for what is no checkpoint, CheckpointError where it does not load, and StoreError where an
        answer cannot be kept.
        """
        answers = Answers(self.cache)
        paths = {question: self._path(answers, question) for question in questions if question not in self._known}
        for question, path in paths.items():
            kept = answers.read(path)
            if kept is not None:
                self._known[question] = kept
        new = [question for question in paths if question not in self._known]
        if new:
            for question, answer in zip(new, self._answered(new), strict=True):
                self._keep(answers, paths[question], answer)
                self._known[question] = answer
        return [self._known[question] for question in questions]

    def _answered(self, questions: Sequence[str]) -> list[str]:
        from ..checkpoints.loading import loaded

        checkpoint = loaded(self.ref, dtype=self.dtype, device=self.device)
        return greedy_answers(checkpoint, questions, max_new_tokens=self.max_tokens)

    def _path(self, answers: Answers, question: str) -> Path:
        return answers.path(dict(self.identity), question)

    def _keep(self, answers: Answers, path: Path, answer: str) -> None:
        try:
            answers.keep(path, answer, **self.identity)
        except OSError as error:
            raise StoreError(
                f"An answer of checkpoint {self.ref.name!r} cannot be kept in {path.parent} ({error.strerror}); free "
                "some space or choose another cache folder."
            ) from error


def greedy_answers(checkpoint: Checkpoint, questions: Sequence[str], *, max_new_tokens: int) -> list[str]:
    """The checkpoint's greedy answer to each question, asked in its own tokenizer's chat template, in order.

    Without a template the question stands as it is. Empty where the question leaves no room in the context.
    """
    from ..checkpoints.decoding import greedy_responses
    from ..prompts.chat import resolve_chat_template
    from ..prompts.ends import chat_ends
    from ..prompts.tokens import encode

    template = resolve_chat_template(replace(checkpoint.ref, chat_template=None), checkpoint.tokenizer)
    asked = [encode(question, checkpoint.tokenizer, template).ids for question in questions]
    fitting = [i for i, ids in enumerate(asked) if len(ids) < checkpoint.context_length]
    responses = greedy_responses(
        checkpoint,
        [asked[i] for i in fitting],
        max_new_tokens=max_new_tokens,
        ends=chat_ends(checkpoint, template),
    )
    found = dict(zip(fitting, (response.text for response in responses), strict=True))
    return [found.get(i, "") for i in range(len(questions))]
