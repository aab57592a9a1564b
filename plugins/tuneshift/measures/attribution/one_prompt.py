"""Attribution of one prompt on a transformers model that the caller loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...checkpoints.decoding import greedy_responses
from ...checkpoints.inspection import context_length
from ...checkpoints.loading import Checkpoint
from ...checkpoints.refs import ModelRef
from ...errors import UsageError, require_kind
from ...prompts.chat import resolve_chat_template
from ...prompts.ends import chat_ends
from ...prompts.prompt import Span
from ...prompts.tokens import context_mask, display_tokens, encode, response_ids, token_mask
from .backend import choose_backend
from .density import Attribution, importance_levels
from .generic import frozen

Ids = npt.NDArray[np.int64]


def attribute(
    model: Any,
    tokenizer: Any,
    prompt: str,
    response: str | None = None,
    *,
    instruction_spans: Sequence[Span] = (),
    chat_template: str | None = None,
    max_new_tokens: int = 300,
) -> Attribution:
    """Input-output attribution of one response: importance [prompt token, response token], its levels and density.

    Levels and density are scaled over the user's text, as the findings do; importance has the chat template's tokens.

    ``model`` is any decoder-only language model of transformers, on the device and in the dtype that the caller chose;
    it is left as it was. ``tokenizer`` is its fast tokenizer. ``response`` None takes the model's greedy response of at
    most ``max_new_tokens`` tokens. ``instruction_spans`` are [start, end) in characters of ``prompt``: what
    `instruction_score` and its like read. ``chat_template``: None takes the tokenizer's own (the plain prompt where it
    has none), ``"none"`` the plain prompt, else a Jinja file or the template itself.

    importance: float32 [prompt token, response token], the first-order change in the probability of the response token
    when the prompt token's embedding is removed. Source: arXiv:2310.00492, section 3.1.

    Raises UsageError for a prompt or response without tokens, spans outside the prompt and what exceeds the context;
    PairError and PromptError for a chat template that cannot be used; CheckpointError for a slow tokenizer;
    MeasureError where weights give NaN or memory runs out.
    """
    require_kind("prompt", prompt, str, "a text")
    if response is not None:
        require_kind("response", response, str, "a text, or None for the model's own")
    if chat_template is not None:
        require_kind("chat_template", chat_template, str, "a Jinja file, a template, 'none' or None")
    require_kind("max_new_tokens", max_new_tokens, int, "a number of tokens")
    checkpoint = _checkpoint(model, tokenizer, chat_template)
    template = resolve_chat_template(checkpoint.ref, tokenizer)
    spans = _checked(instruction_spans, prompt)
    encoded = encode(prompt, tokenizer, template)
    if len(encoded.ids) == 0:
        raise UsageError("The prompt has no token, so nothing can be attributed to it.")
    with frozen(model):
        ids, text, ended = _response(checkpoint, encoded.ids, prompt, response, template, max_new_tokens)
        _require_room(checkpoint, len(encoded.ids), len(ids))
        scores = np.zeros((len(encoded.ids), 0), dtype=np.float32)
        if len(ids):
            found = choose_backend(model)(torch.from_numpy(encoded.ids), torch.from_numpy(ids))
            scores = np.asarray(found.float().cpu().numpy())
    return Attribution(
        id=prompt if len(prompt) <= 40 else f"{prompt[:39]}…",
        importance=scores,
        levels=importance_levels(scores, scope=encoded.in_text),
        instruction=token_mask(prompt, encoded.offsets, spans),
        context=context_mask(prompt, encoded.offsets, spans),
        user=encoded.in_text,
        scope=encoded.in_text,
        tokens=encoded.tokens,
        response_tokens=tuple(display_tokens(ids, tokenizer)),
        response=text,
        ended=ended,
    )


def _checkpoint(model: Any, tokenizer: Any, chat_template: str | None) -> Checkpoint:
    """The caller's model in the form that decoding takes."""
    if not (callable(tokenizer) and hasattr(tokenizer, "convert_ids_to_tokens")):
        raise UsageError(f"attribute() takes the model's fast tokenizer; got {type(tokenizer).__name__}.")
    if not (hasattr(model, "generate") and hasattr(model, "get_input_embeddings")):
        raise UsageError(
            f"attribute() takes a language model of transformers, as AutoModelForCausalLM loads it; got "
            f"{type(model).__name__}."
        )
    weight = model.get_input_embeddings().weight
    return Checkpoint(
        ref=ModelRef(name=type(model).__name__, chat_template=chat_template),
        model=model,
        tokenizer=tokenizer,
        device=weight.device,
        dtype=str(weight.dtype).removeprefix("torch."),
        context_length=context_length(model.config),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _checked(spans: Sequence[Span], prompt: str) -> tuple[Span, ...]:
    wanted = "a list of [start, end) in characters of the prompt, as [(0, 12)]"
    require_kind("instruction_spans", spans, (list, tuple), wanted)
    for span in spans:
        if not (isinstance(span, (list, tuple)) and [type(end) for end in span] == [int, int]):
            raise UsageError(f"instruction_spans is {wanted}; got {span!r:.80} in it.")
    for start, end in spans:
        if not 0 <= start < end <= len(prompt):
            raise UsageError(
                f"instruction span [{start}, {end}) lies outside the prompt of {len(prompt)} characters; "
                "a span is [start, end) in characters of the prompt."
            )
    return tuple(spans)


def _response(
    checkpoint: Checkpoint, asked: Ids, prompt: str, given: str | None, template: str | None, longest: int
) -> tuple[Ids, str, bool | None]:
    """Token ids and text of the response, and whether the model ended it (None for a given one)."""
    if given is not None:
        ids = response_ids(given, prompt, checkpoint.tokenizer, template)
        if len(ids) == 0:
            raise UsageError("The response has no token; give a text, or None for the model's own response.")
        return ids, given, None
    _require_room(checkpoint, len(asked), 1)
    if longest < 1:
        raise UsageError(f"max_new_tokens is {longest}; a response needs at least 1.")
    ends = chat_ends(checkpoint, template)
    (made,) = greedy_responses(checkpoint, [asked], max_new_tokens=longest, ends=ends)
    return made.ids, made.text, made.ended


def _require_room(checkpoint: Checkpoint, prompt: int, response: int) -> None:
    if prompt + response > checkpoint.context_length:
        raise UsageError(
            f"{prompt} prompt tokens and {response} response tokens exceed the context of "
            f"{checkpoint.context_length}; shorten one of them."
        )
