"""From a backend's name to a checkpoint that answers through it: how lm-eval's models are started and ended."""

from __future__ import annotations

import gc
import inspect as signatures
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from ..checkpoints.decoding import FIRST_BATCH
from ..checkpoints.files import locate, locate_adapter, tokenizer_folder
from ..checkpoints.inspection import inspect
from ..checkpoints.loading import Checkpoint
from ..checkpoints.memory import empty_cache
from ..checkpoints.refs import LMBackend, ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..errors import MeasureError, UsageError
from .model import LONGEST_SHOWN, BackendModel, shown, silence
from .spec import default_name, is_api, model_class


@contextmanager
def answering(
    backend: LMBackend, ref: ModelRef, *, dtype: str, checkpoint: Checkpoint | None
) -> Iterator[BackendModel]:
    """The checkpoint behind its backend for the length of a ``with`` block; an engine is shut down on leaving.

    ``checkpoint``: the loaded one for lm-eval's ``hf``; None for a backend that has its own weights (or whose server
    does), and then no weights are loaded here. ``dtype``: what an engine in this process computes in; a server has its
    own. Raises UsageError as `backends.require_backend`, and for an adapter that the backend cannot take (one that
    learns tokens before the text: none can); MeasureError where an engine does not start.
    """
    model, info = model_class(backend), inspect(ref)
    if info.prompt_learning is not None:
        raise UsageError(
            f"Checkpoint {ref.name!r} is a {info.prompt_learning} adapter: learned tokens before the text, which "
            f"backend {backend.name!r} would count among the text's or leave out. Measure it without the backend."
        )
    context = checkpoint.context_length if checkpoint else info.context_length
    given = _loaded_arguments(checkpoint) if checkpoint else _own_arguments(backend, ref, model, dtype, context)
    with ExitStack() as stack:
        lm = _started(backend, ref, model, given)
        stack.callback(_shut_down, lm)
        _check_answers(lm, model)
        tokenizer = load_tokenizer(ref)
        # A backend generates a token to get log-probabilities of a prompt; lm-eval's API models set it aside.
        room = context if checkpoint else min(context, int(getattr(lm, "max_length", context)))
        scored = room + 1 if checkpoint else room if is_api(model) else room - 1
        yield BackendModel(
            ref=ref, backend=backend, lm=lm, tokenizer=tokenizer, context_length=room, scored_length=scored,
            checkpoint=checkpoint,
        )  # fmt: skip


def _loaded_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "pretrained": checkpoint.model,
        "tokenizer": load_tokenizer(checkpoint.ref),  # one of its own: lm-eval sets its padding
        "max_length": checkpoint.context_length,
        "batch_size": FIRST_BATCH,
    }


def _own_arguments(backend: LMBackend, ref: ModelRef, model: Any, dtype: str, context: int) -> dict[str, Any]:
    """What the checkpoint has to say to a backend that loads it itself or asks a server, as far as it listens."""
    adapter = locate_adapter(ref)
    common = {"tokenizer": str(tokenizer_folder(ref)), "trust_remote_code": ref.trust_remote_code}
    if is_api(model):
        return {**common, "model": default_name(ref), "tokenizer_backend": "huggingface", "max_length": context}
    wished = {
        **common,
        "pretrained": str(locate(ref)),
        "tokenizer_path": common["tokenizer"],
        "dtype": dtype,
        **({"lora_local_path": str(adapter)} if adapter else {}),
    }
    known = _parameters(model)
    if adapter and "lora_local_path" not in known:
        raise UsageError(
            f"Checkpoint {ref.name!r} is an adapter, which backend {backend.name!r} does not take; merge it into its "
            "base model, or measure it without the backend."
        )
    return {name: value for name, value in wished.items() if name in known}


def _parameters(model: Any) -> set[str]:
    """Names that a class's constructor takes, with its bases' where it hands them on."""
    found: set[str] = set()
    for owner in model.__mro__:
        if "__init__" in vars(owner):
            parameters = signatures.signature(owner.__init__).parameters.values()
            found |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found - {"self"}


def _started(backend: LMBackend, ref: ModelRef, model: Any, given: dict[str, Any]) -> Any:
    written = import_module("lm_eval.utils").simple_parse_args_string(backend.args)
    try:
        with silence(bars=False):
            return model.create_from_arg_obj({**given, **written})
    except Exception as error:  # whatever an engine's start and its arguments lead to
        raise MeasureError(
            f"Backend {backend.name!r} does not start for {ref.name}: {shown(error)}. Its arguments are "
            f"{backend.args or 'none'}."
        ) from error


def _shut_down(lm: Any) -> None:
    """Ends an engine that says how, and lets go of any other."""
    engine = getattr(lm, "model", None)
    shutdown = getattr(engine, "shutdown", None)
    if callable(shutdown):
        shutdown()
    vars(lm).clear()
    gc.collect()
    empty_cache()


def _check_answers(lm: Any, model: Any) -> None:
    """Has a server's answers counted where lm-eval reads them: it would sum whatever tokens came back."""
    if not is_api(model):
        return
    completions = import_module("lm_eval.models.openai_completions").LocalCompletionsAPI
    if model.parse_logprobs is completions.parse_logprobs:
        lm.parse_logprobs = _counted(lm.parse_logprobs)
    lm.parse_generations = _texts_only(lm.parse_generations)


def _counted(parse: Callable[..., Any]) -> Callable[..., Any]:
    """`parse_logprobs` of an OpenAI completion, refusing answers that are not about the tokens that were sent.

    A server without ``echo`` gives log-probabilities of the one new token, whose empty rest sums to 0: certainty.
    """

    def parse_logprobs(outputs: Any, tokens: Sequence[Sequence[int]], **rest: Any) -> Any:
        answers = outputs if isinstance(outputs, list) else [outputs]
        choices = sorted((c for answer in answers for c in answer["choices"]), key=lambda c: int(c["index"]))
        if len(choices) != len(tokens):
            raise ValueError(f"{len(choices)} choices for {len(tokens)} prompts")
        for choice, ids in zip(choices, tokens, strict=True):
            count = len(choice["logprobs"]["token_logprobs"])
            if count != len(ids) + 1:
                raise ValueError(
                    f"log-probabilities of {count} tokens for a prompt of {len(ids)} and one new token; the server has "
                    "to support echo with logprobs, and prompts of token ids"
                )
        return parse(outputs=outputs, tokens=tokens, **rest)

    return parse_logprobs


def _texts_only(parse: Callable[..., Any]) -> Callable[..., Any]:
    """`parse_generations`, refusing what is no text: lm-eval takes a missing one for an empty response."""

    def parse_generations(outputs: Any, **rest: Any) -> Any:
        texts = parse(outputs=outputs, **rest)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"no text in {outputs!r:.{LONGEST_SHOWN}}")
        return texts

    return parse_generations
