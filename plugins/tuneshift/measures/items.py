"""From a checkpoint and prompts to evidence items: what each measure stores of a prompt, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..adapters import RuleAdapter, turn_as_released
from ..checkpoints import Checkpoint
from ..records import EvidenceItem, Json, Prompt
from ..rules import rules_of
from ..tokens import EncodedPrompt, display_tokens, encode, prompt_text, response_ids
from .attribution import Backend, choose_backend
from .backend_model import BackendModel
from .catalogue import Take
from .density import importance_levels
from .generation import FIRST_BATCH, Response, greedy_responses

Ids = npt.NDArray[np.int64]
PRECISION_PROMPTS = 3
"""Prompts on which half precision is compared with float32: enough to see its order, few enough to cost nothing."""


def generation(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Greedy responses as evidence: ``response_ids`` [response], ``response`` (text), ``ended`` (by the end token).

    ``params["rules"]``: rules of an adapter in plain form (`rules.rules_of`), under which the checkpoint responds;
    ``params["present"]``: what of the prompt its diversity rule counts, ``turn`` as the release or ``text``. The value
    ``missing`` then names the texts of the uniform rule that are no single token here. Behind a backend, which takes no
    rules, ids and ``ended`` are made from the text (`BackendModel.greedy_responses`).
    ``params["batch"]``: batch size against the usual one.
    """

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        encoded = [encode(p.prompt, checkpoint.tokenizer, params["chat_template"]) for p in prompts]
        fitting = [i for i, e in enumerate(encoded) if len(e.ids) + 1 <= checkpoint.context_length]
        asked = [encoded[i] for i in fitting]
        missing: dict[str, Json] = {}
        if isinstance(checkpoint, BackendModel):
            responses = _backend_responses(checkpoint, params, [prompts[i] for i in fitting], asked)
        elif "rules" in params:
            responses, missing["missing"] = _ruled_responses(checkpoint, params, asked)
        else:
            ids = [e.ids for e in asked]
            responses = greedy_responses(
                checkpoint, ids, max_new_tokens=int(params["max_new_tokens"]), batch_size=_batch_size(params)
            )
        found = dict(zip(fitting, responses, strict=True))
        for i, prompt in enumerate(prompts):
            if i not in found:
                yield EvidenceItem(id=prompt.id, left_out=_too_long(checkpoint))
                continue
            response = found[i]
            yield EvidenceItem(
                id=prompt.id,
                arrays={"response_ids": response.ids},
                values={"response": response.text, "ended": response.ended, **missing},
            )

    return take


def _batch_size(params: Mapping[str, Json]) -> int:
    return max(1, int(FIRST_BATCH * params.get("batch", 1)))


def _backend_responses(
    model: BackendModel, params: Mapping[str, Json], prompts: Sequence[Prompt], encoded: Sequence[EncodedPrompt]
) -> list[Response]:
    template = params["chat_template"]
    texts = [prompt_text(prompt.prompt, model.tokenizer, template) for prompt in prompts]
    return model.greedy_responses(
        [(text, e.ids) for text, e in zip(texts, encoded, strict=True)],
        special_tokens=template is None,
        max_new_tokens=int(params["max_new_tokens"]),
    )


def _ruled_responses(
    checkpoint: Checkpoint, params: Mapping[str, Json], encoded: Sequence[EncodedPrompt]
) -> tuple[list[Response], list[str]]:
    """Responses under the rule adapter, and the texts of its uniform rule that are no single token."""
    rules = rules_of(params["rules"])
    released = params["present"] == "turn"
    adapters: list[RuleAdapter] = []

    def adapter(batch: list[int]) -> RuleAdapter:
        chosen = [encoded[i] for i in batch]
        turns = [turn_as_released(e) if released else e.ids[e.in_text] for e in chosen]
        adapters.append(RuleAdapter(rules, checkpoint.tokenizer, [e.ids for e in chosen], user_turns=turns))
        return adapters[-1]

    ids = [e.ids for e in encoded]
    responses = greedy_responses(checkpoint, ids, max_new_tokens=int(params["max_new_tokens"]), processor=adapter)
    return responses, list(adapters[0].missing) if adapters else []


def attribution(checkpoint: Checkpoint, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Input-output attribution as evidence, for the response that ``params["response"]`` names.

    Arrays: ``importance`` float32 [prompt, response]; ``offsets`` int32 [prompt, 2], characters of the user's text, -1
    for
    tokens of the chat template. Values: ``tokens``, ``response_tokens`` (display strings), ``response``, ``ended``; and
    in half precision, for the first few prompts, ``precision_cost`` against float32. ``params["batch"]``, where it is
    below 1, halves the derivatives that are taken at once.
    """
    backend = choose_backend(checkpoint.model)
    if params.get("batch", 1) < 1:
        backend.halve()
    half = checkpoint.dtype in ("bfloat16", "float16")
    checked = 0

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        nonlocal checked
        for prompt, given in zip(prompts, inputs, strict=True):
            encoded = encode(prompt.prompt, checkpoint.tokenizer, params["chat_template"])
            ids, reason = _response(checkpoint, params, prompt, given)
            if ids is None:
                yield EvidenceItem(id=prompt.id, left_out=reason)
            elif len(encoded.ids) + len(ids) > checkpoint.context_length:
                yield EvidenceItem(id=prompt.id, left_out=_too_long(checkpoint))
            else:
                values: dict[str, Json] = (
                    dict(given.values) if given is not None else {"response": prompt.reference, "ended": None}
                )
                scores = _importance(checkpoint, backend, encoded, ids)
                if half and checked < PRECISION_PROMPTS and len(ids):
                    values["precision_cost"] = _precision_cost(checkpoint, encoded, ids, scores)
                    checked += 1
                yield _attribution_item(checkpoint, prompt, encoded, ids, scores, values)

    return take


def _importance(checkpoint: Checkpoint, backend: Backend, encoded: EncodedPrompt, ids: Ids) -> npt.NDArray[np.float32]:
    if len(ids) == 0:
        return np.zeros((len(encoded.ids), 0), dtype=np.float32)
    scores = backend(torch.from_numpy(encoded.ids), torch.from_numpy(ids))
    return np.asarray(scores.float().cpu().numpy())


def _precision_cost(
    checkpoint: Checkpoint, encoded: EncodedPrompt, ids: Ids, scores: npt.NDArray[np.float32]
) -> dict[str, Json]:
    """What half precision costs on one prompt: relative error (Frobenius) and share of levels moved, against
    float32."""
    with _in_float32(checkpoint.model):
        exact = _importance(checkpoint, choose_backend(checkpoint.model), encoded, ids)
    size = float(np.linalg.norm(exact))
    moved = importance_levels(scores) != importance_levels(exact)
    return {
        "relative_error": float(np.linalg.norm(scores - exact)) / size if size else 0.0,
        "levels_moved": float(moved.mean()),
    }


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    """The same weights, widened to float32 and put back. Parameters only: buffers such as rotary frequencies never
    were in half precision."""
    stored = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, data in stored:
            parameter.data = data.float()
        yield
    finally:
        for parameter, data in stored:
            parameter.data = data


def _attribution_item(
    checkpoint: Checkpoint,
    prompt: Prompt,
    encoded: EncodedPrompt,
    ids: Ids,
    scores: npt.NDArray[np.float32],
    values: Mapping[str, Json],
) -> EvidenceItem:
    return EvidenceItem(
        id=prompt.id,
        arrays={"importance": scores, "offsets": encoded.offsets.astype(np.int32)},
        values={
            "tokens": list(encoded.tokens),
            "response_tokens": display_tokens(ids, checkpoint.tokenizer),
            "response": values["response"],
            "ended": values["ended"],
            **({"precision_cost": values["precision_cost"]} if "precision_cost" in values else {}),
        },
    )


def _response(
    checkpoint: Checkpoint, params: Mapping[str, Json], prompt: Prompt, given: EvidenceItem | None
) -> tuple[Ids | None, str]:
    """Token ids of the response to attribute, or the reason why there is none."""
    if params["response"] == "reference":
        return _reference_ids(checkpoint, params, prompt)
    if given is None:
        return None, "no response was generated for it"
    if given.left_out:
        return None, given.left_out
    ids = np.asarray(given.arrays["response_ids"], dtype=np.int64)
    if len(ids) and ids.max() >= checkpoint.model.get_input_embeddings().weight.shape[0]:
        return None, "the tuned model's response uses tokens that this model does not have"
    return ids, ""


def _reference_ids(checkpoint: Checkpoint, params: Mapping[str, Json], prompt: Prompt) -> tuple[Ids | None, str]:
    if not prompt.reference:
        return None, "it has no reference response"
    ids = response_ids(prompt.reference, prompt.prompt, checkpoint.tokenizer, params["chat_template"])
    return ids[: int(params["max_new_tokens"])], ""


def _too_long(checkpoint: Checkpoint | BackendModel) -> str:
    return f"it does not fit the context of {checkpoint.context_length} tokens"
