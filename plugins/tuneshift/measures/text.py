"""Log-probabilities of plain texts: how well a checkpoint still predicts what nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoints.scoring import Request
from ..plain import Json
from ..prompts.chat import bare_ids
from ..prompts.prompt import Prompt
from ..store.evidence import EvidenceItem
from .catalogue import Take
from .likelihood import logprobs, scored_length

if TYPE_CHECKING:
    from ..backends.model import BackendModel
    from ..checkpoints.loading import Checkpoint


def text(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Log-probability of each text, in nats, as it stands: no chat format, whatever the checkpoint's template.

    It stands after the token that begins a text, else after the one that ends the text before (`bare_ids`); where the
    tokenizer has neither, the text's first token is what the others are predicted from, and is not predicted itself.
    ``params["batch"]``: positions of a forward pass against the usual number.

    Arrays: ``logprob`` float64 [], summed over the predicted tokens; ``tokens`` int64 [], how many these are.
    """
    tokenizer = checkpoint.tokenizer
    start = bare_ids(tokenizer, None)
    longest = scored_length(checkpoint)

    def request(prompt: Prompt) -> Request:
        ids = np.asarray(tokenizer(prompt.prompt, add_special_tokens=False)["input_ids"], dtype=np.int64)
        return (start, [ids]) if len(start) else (ids[:1], [ids[1:]])

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        asked = [request(prompt) for prompt in prompts]
        fit = [len(before) + len(after) <= longest and len(after) > 0 for before, (after,) in asked]
        sums = iter(
            logprobs(
                checkpoint, [one for one, fits in zip(asked, fit, strict=True) if fits],
                batch_share=params.get("batch", 1),
            )
        )  # fmt: skip
        for prompt, (_, (after,)), fits in zip(prompts, asked, fit, strict=True):
            if not len(after):
                yield EvidenceItem(id=prompt.id, left_out="it has no token to predict")
            elif not fits:
                why = f"it does not fit the context of {checkpoint.context_length} tokens"
                yield EvidenceItem(id=prompt.id, left_out=why)
            else:
                yield EvidenceItem(
                    id=prompt.id,
                    arrays={
                        "logprob": np.array(next(sums)[0], dtype=np.float64),
                        "tokens": np.array(len(after), dtype=np.int64),
                    },
                    values={},
                )

    return take
