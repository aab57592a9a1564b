"""Greedy responses of one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ..backends.model import BackendModel
from ..checkpoints.decoding import FIRST_BATCH, Response, greedy_responses
from ..checkpoints.ends import own_ends
from ..checkpoints.loading import Checkpoint
from ..plain import Json
from ..prompts.chat import chat_of, end_token, prompt_text
from ..prompts.prompt import Prompt
from ..prompts.thinking import thoughts_in
from ..prompts.tokens import EncodedPrompt, encode
from ..store.evidence import EvidenceItem
from .adapter_rules import rules_of
from .catalogue import Take
from .rule_adapter import RuleAdapter, turn_as_released

Ids = npt.NDArray[np.int64]


def generation(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Greedy responses as evidence: ``response_ids`` [response], ``response`` (text), ``ended`` (by the end token).

    ``params["ends"]``: ids that end a response; where the parameters have none, the checkpoint's own. Where a model
    thinks between the tags ``params["thinking"]``, the response is what follows its thoughts: ``thought_ids``
    [thought] and the value ``thoughts`` hold these (`_said`).

    ``params["rules"]``: rules of an adapter in plain form (`rules_of`), under which the checkpoint responds;
    ``params["present"]``: what of the prompt its diversity rule counts, ``turn`` as the release or ``text``. The value
    ``missing`` then names the texts of the uniform rule that are no single token here. Behind a backend, which takes no
    rules, ids and ``ended`` are made from the text (`BackendModel.greedy_responses`).
    ``params["batch"]``: batch size against the usual one, with rules and behind lm-eval's ``hf`` too.
    """

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        encoded = [encode(p.prompt, checkpoint.tokenizer, chat_of(params)) for p in prompts]
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
                checkpoint,
                ids,
                max_new_tokens=int(params["max_new_tokens"]),
                ends=params.get("ends"),
                batch_size=_batch_size(params),
            )
        found = dict(zip(fitting, responses, strict=True))
        for i, prompt in enumerate(prompts):
            if i not in found:
                yield EvidenceItem(id=prompt.id, left_out=too_long(checkpoint))
                continue
            said = _said(checkpoint, params, encoded[i], found[i])
            yield EvidenceItem(id=prompt.id, arrays=said.arrays, values={**said.values, **missing})

    return take


@dataclass(frozen=True, kw_only=True)
class _Said:
    arrays: Mapping[str, Ids]
    values: Mapping[str, Json]


def _said(
    checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], asked: EncodedPrompt, response: Response
) -> _Said:
    """A response as evidence, its thoughts apart: ``thoughts`` has their ``text``, their ``tokens`` (tags included) and
    whether they ``ended``; where they did not, the response is empty."""
    thoughts = thoughts_in(response.ids, asked.after_text, checkpoint.tokenizer, params.get("thinking"))
    if thoughts is None:
        return _Said(arrays={"response_ids": response.ids}, values={"response": response.text, "ended": response.ended})
    thought, answer = response.ids[: thoughts.tokens], response.ids[thoughts.tokens :]
    told = {"text": _decoded(checkpoint, thought), **asdict(thoughts)}
    return _Said(
        arrays={"response_ids": answer, "thought_ids": thought},
        values={"response": _decoded(checkpoint, answer).lstrip(), "ended": response.ended, "thoughts": told},
    )


def _decoded(checkpoint: Checkpoint | BackendModel, ids: Ids) -> str:
    return str(checkpoint.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _batch_size(params: Mapping[str, Json]) -> int:
    return max(1, int(FIRST_BATCH * params.get("batch", 1)))


def _backend_responses(
    model: BackendModel, params: Mapping[str, Json], prompts: Sequence[Prompt], encoded: Sequence[EncodedPrompt]
) -> list[Response]:
    chat, ends = chat_of(params), params.get("ends")
    texts = [prompt_text(prompt.prompt, model.tokenizer, chat) for prompt in prompts]
    return model.greedy_responses(
        [(text, e.ids) for text, e in zip(texts, encoded, strict=True)],
        special_tokens=chat is None,
        max_new_tokens=int(params["max_new_tokens"]),
        batch_share=params.get("batch", 1),
        ends=own_ends(model.ref, model.tokenizer) if ends is None else ends,
    )


def _ruled_responses(
    checkpoint: Checkpoint, params: Mapping[str, Json], encoded: Sequence[EncodedPrompt]
) -> tuple[list[Response], list[str]]:
    """Responses under the rule adapter, and the texts of its uniform rule that are no single token."""
    rules = rules_of(params["rules"])
    released = params["present"] == "turn"
    adapters: list[RuleAdapter] = []
    end = end_token(checkpoint.tokenizer, chat_of(params))

    def adapter(batch: list[int]) -> RuleAdapter:
        chosen = [encoded[i] for i in batch]
        turns = [turn_as_released(e) if released else e.ids[e.in_text] for e in chosen]
        adapters.append(
            RuleAdapter(rules, checkpoint.tokenizer, [e.ids for e in chosen], user_turns=turns, end_token=end)
        )
        return adapters[-1]

    ids = [e.ids for e in encoded]
    responses = greedy_responses(
        checkpoint,
        ids,
        max_new_tokens=int(params["max_new_tokens"]),
        batch_size=_batch_size(params),
        ends=params.get("ends"),
        processor=adapter,
    )
    return responses, list(adapters[0].missing) if adapters else []


def too_long(checkpoint: Checkpoint | BackendModel) -> str:
    return f"it does not fit the context of {checkpoint.context_length} tokens"
