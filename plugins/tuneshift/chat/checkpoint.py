"""A local checkpoint that is asked questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..checkpoints.decoding import greedy_responses
from ..checkpoints.loading import Checkpoint
from ..prompts.chat import resolve_chat_template
from ..prompts.tokens import encode


def greedy_answers(checkpoint: Checkpoint, questions: Sequence[str], *, max_new_tokens: int) -> list[str]:
    """The checkpoint's greedy answer to each question, asked in its own tokenizer's chat template, in order.

    Without a template the question stands as it is. Empty where the question leaves no room in the context.
    """
    template = resolve_chat_template(replace(checkpoint.ref, chat_template=None), checkpoint.tokenizer)
    asked = [encode(question, checkpoint.tokenizer, template).ids for question in questions]
    fitting = [i for i, ids in enumerate(asked) if len(ids) < checkpoint.context_length]
    responses = greedy_responses(checkpoint, [asked[i] for i in fitting], max_new_tokens=max_new_tokens)
    found = dict(zip(fitting, (response.text for response in responses), strict=True))
    return [found.get(i, "") for i in range(len(questions))]
