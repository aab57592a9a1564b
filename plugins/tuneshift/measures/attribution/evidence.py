"""From a checkpoint and prompts to evidence items: what each measure stores of a prompt, and what it leaves out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ...checkpoints.loading import Checkpoint
from ...checkpoints.memory import empty_cache, is_out_of_memory
from ...errors import MeasureError
from ...plain import Json
from ...prompts.chat import OUTSIDE, chat_of
from ...prompts.prompt import Prompt
from ...prompts.tokens import EncodedPrompt, display_tokens, encode, response_ids
from ...store.evidence import EvidenceItem
from ..catalogue import Take
from ..generation import too_long
from .backend import Backend, choose_backend, in_float32
from .density import importance_levels
from .thinning import evenly_spaced

Ids = npt.NDArray[np.int64]
PRECISION_PROMPTS = 3
"""Prompts on which half precision is compared with float32: enough to see its order, few enough to cost nothing."""


def attribution(checkpoint: Checkpoint, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Input-output attribution as evidence, for the response that ``params["response"]`` names.

    Arrays: ``importance`` float32 [prompt, response]; ``offsets`` int32 [prompt, 2], characters of the user's text, -1
    for tokens of the chat template. The thoughts before a model's response are rows after the prompt's own, without a
    place in the user's text. Values: ``tokens``, ``response_tokens`` (display strings), ``response``, ``ended``; for a
    model that thought ``thoughts`` of its generation; ``path`` (``llama`` or ``generic``: which of the two took it);
    and in half precision, for the first few prompts,
    ``precision_cost`` against float32. ``params["batch"]``, where it is below 1, halves the derivatives that are taken
    at once. ``params["thoughts"]`` = ``response`` takes them as part of the response.

    ``params["attributed_response_tokens"]``: all, or how many `evenly_spaced` ones; where a response has more, the
    value ``thinned_from`` has its length. ``params["attributed_rows"]`` = ``text`` leaves the rows of tokens without a
    place in the user's text at NaN where the path saves work by it.
    """
    backend = choose_backend(checkpoint.model)
    if params.get("batch", 1) < 1:
        backend.halve()
    usual = backend.size
    spares_rows = params.get("attributed_rows") == "text" and backend.saves_rows
    asked = params.get("attributed_response_tokens", "all")
    most = None if asked == "all" else int(asked)
    half = checkpoint.dtype in ("bfloat16", "float16")
    checked = 0

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        nonlocal checked
        for prompt, given in zip(prompts, inputs, strict=True):
            encoded = encode(prompt.prompt, checkpoint.tokenizer, chat_of(params))
            if given is not None and "thought_ids" in given.arrays and params.get("thoughts") != "response":
                encoded = _followed_by(encoded, np.asarray(given.arrays["thought_ids"], dtype=np.int64), checkpoint)
            ids, reason = _response(checkpoint, params, prompt, given)
            if ids is None:
                yield EvidenceItem(id=prompt.id, left_out=reason)
            elif len(encoded.ids) + len(ids) > checkpoint.context_length:
                yield EvidenceItem(id=prompt.id, left_out=too_long(checkpoint))
            else:
                values: dict[str, Json] = (
                    dict(given.values) if given is not None else {"response": prompt.reference, "ended": None}
                )
                columns = evenly_spaced(len(ids), most)
                rows = np.flatnonzero(encoded.in_text) if spares_rows else np.arange(len(encoded.ids))
                scores = _importance(backend, encoded, ids, rows, columns)
                values["path"] = backend.name
                if len(columns) < len(ids):
                    values["thinned_from"] = len(ids)
                if backend.size < usual:
                    checkpoint.reduced["derivatives taken together"] = backend.size
                if half and checked < PRECISION_PROMPTS and len(ids):
                    cost = _precision_cost(checkpoint, backend, encoded, ids, rows, columns, scores)
                    # Where float32 did not fit once it is not tried again.
                    checked = PRECISION_PROMPTS if cost is None else checked + 1
                    values |= {} if cost is None else {"precision_cost": cost}
                yield _attribution_item(checkpoint, prompt, encoded, ids[columns], rows, scores, values)

    return take


def _followed_by(prompt: EncodedPrompt, thoughts: Ids, checkpoint: Checkpoint) -> EncodedPrompt:
    """A prompt with the thoughts that a model had before its response: context, and no part of the user's text."""
    outside = np.full((len(thoughts), 2), OUTSIDE[0], dtype=np.int64)
    return EncodedPrompt(
        ids=np.concatenate([prompt.ids, thoughts]),
        tokens=(*prompt.tokens, *display_tokens(thoughts, checkpoint.tokenizer)),
        offsets=np.concatenate([prompt.offsets, outside]),
    )


def _importance(backend: Backend, encoded: EncodedPrompt, ids: Ids, rows: Ids, columns: Ids) -> npt.NDArray[np.float32]:
    """Importance [row, column] of some prompt tokens for some of a response's."""
    if len(rows) == 0 or len(columns) == 0:
        return np.zeros((len(rows), len(columns)), dtype=np.float32)
    scores = backend(
        torch.from_numpy(encoded.ids),
        torch.from_numpy(ids),
        prompt_tokens=None if len(rows) == len(encoded.ids) else torch.from_numpy(rows),
        response_tokens=None if len(columns) == len(ids) else torch.from_numpy(columns),
    )
    return np.asarray(scores.float().cpu().numpy())


def _precision_cost(
    checkpoint: Checkpoint,
    backend: Backend,
    encoded: EncodedPrompt,
    ids: Ids,
    rows: Ids,
    columns: Ids,
    scores: npt.NDArray[np.float32],
) -> dict[str, Json] | None:
    """What half precision costs on one prompt: relative error (Frobenius) and share of levels moved, against float32.

    None, with a warning, where float32 does not fit the memory: whoever chose half precision may have done so for that.
    """
    try:
        with in_float32(backend) as exactly:
            exact = _importance(exactly, encoded, ids, rows, columns)
    except (RuntimeError, MemoryError, MeasureError) as error:
        if not (is_out_of_memory(error) or is_out_of_memory(error.__cause__)):
            raise
        # No exception is kept, nor the frames that it holds: the pass that follows needs their memory.
        exact = None
    if exact is None:
        empty_cache()
        warnings.warn(
            f"{checkpoint.ref.name}: what {checkpoint.dtype} costs against float32 was not taken, because float32 does "
            "not fit the memory.",
            stacklevel=2,
        )
        return None
    size = float(np.linalg.norm(exact))
    moved = importance_levels(scores) != importance_levels(exact)
    return {
        "relative_error": float(np.linalg.norm(scores - exact)) / size if size else 0.0,
        "levels_moved": float(moved.mean()),
    }


def _attribution_item(
    checkpoint: Checkpoint,
    prompt: Prompt,
    encoded: EncodedPrompt,
    ids: Ids,
    rows: Ids,
    scores: npt.NDArray[np.float32],
    values: Mapping[str, Json],
) -> EvidenceItem:
    """``ids``: the response tokens that ``scores`` [row, token] are for; ``rows``: their prompt tokens."""
    importance = np.full((len(encoded.ids), len(ids)), np.nan, dtype=np.float32)
    importance[rows] = scores
    return EvidenceItem(
        id=prompt.id,
        arrays={"importance": importance, "offsets": encoded.offsets.astype(np.int32)},
        values={
            "tokens": list(encoded.tokens),
            "response_tokens": display_tokens(ids, checkpoint.tokenizer),
            "response": values["response"],
            "ended": values["ended"],
            "path": values["path"],
            **{name: values[name] for name in ("thoughts", "precision_cost", "thinned_from") if name in values},
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
    seen = np.concatenate([given.arrays.get("thought_ids", ids[:0]), ids])
    if len(seen) and seen.max() >= checkpoint.model.get_input_embeddings().weight.shape[0]:
        return None, "the tuned model's response uses tokens that this model does not have"
    return seen if params.get("thoughts") == "response" else ids, ""


def _reference_ids(checkpoint: Checkpoint, params: Mapping[str, Json], prompt: Prompt) -> tuple[Ids | None, str]:
    if not prompt.reference:
        return None, "it has no reference response"
    ids = response_ids(prompt.reference, prompt.prompt, checkpoint.tokenizer, chat_of(params))
    return ids[: int(params["max_new_tokens"])], ""
