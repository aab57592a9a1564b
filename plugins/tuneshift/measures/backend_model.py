"""A checkpoint that answers through lm-eval's model interface: greedy responses and log-likelihoods of token ids.

The numbers and their layout are those of our own passes (`generation.greedy_responses`,
`likelihood.response_logprobs`); what lm-eval's interface does not pass on is named where it is missing.
"""

from __future__ import annotations

import gc
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint_files import locate, locate_adapter, tokenizer_folder
from ..checkpoints import Checkpoint
from ..errors import EndpointError, MeasureError, TuneshiftError, UsageError
from ..inspection import inspect
from ..memory import empty_cache
from ..records import Json, LMBackend, ModelRef
from ..weights import first_line, load_tokenizer, quiet
from .backends import API_KEY, default_name, is_api, model_class
from .generation import FIRST_BATCH, Response, end_tokens, plain_greedy

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Request = tuple[Ids, Sequence[Ids]]
Key = tuple[tuple[int, ...], tuple[int, ...]]

ABOVE_ZERO = 1e-3
"""How far rounding in half precision may lift a log-probability over 0."""
_SHOWN = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class BackendModel:
    """One checkpoint behind a backend, valid inside `answering`'s block.

    ``context_length``: tokens that a prompt and its response may have together; ``scored_length``: the same where the
    response is given. The second is less by what the backend must generate to score (one token, unless it computes on
    our loaded model), the first by what lm-eval sets aside. ``ends``: texts of the end tokens. ``checkpoint``: the
    loaded one where the backend computes with it.
    """

    ref: ModelRef
    backend: LMBackend
    lm: Any
    tokenizer: Any
    context_length: int
    scored_length: int
    ends: Mapping[int, str]
    checkpoint: Checkpoint | None

    def greedy_responses(
        self, prompts: Sequence[tuple[str, Ids]], *, special_tokens: bool, max_new_tokens: int
    ) -> list[Response]:
        """Each prompt's greedy response, in the order given, as `generation.greedy_responses`.

        prompts: what is tokenised (`tokens.prompt_text`) with its ids; ``special_tokens``: whether tokenising adds any.
        Deviations, because lm-eval's interface passes on text alone: ``ids`` are those of the text tokenised again, and
        ``ended`` is whether they are fewer than the limit.

        Raises MeasureError where the backend would tokenise a prompt otherwise, and for what it makes of an answer that
        is none; EndpointError where a server does not answer.
        """
        if not prompts:
            return []
        if hasattr(self.lm, "add_bos_token"):
            self.lm.add_bos_token = special_tokens  # read by lm-eval's models whenever they tokenise
        for text, ids in prompts:
            self._require_same_ids(text, ids)
        limits = [min(max_new_tokens, self.context_length - len(ids)) for _, ids in prompts]
        instance = import_module("lm_eval.api.instance").Instance
        asked = [
            instance(request_type="generate_until", doc={}, arguments=(text, self._decoding(limit)), idx=i)
            for i, ((text, _), limit) in enumerate(zip(prompts, limits, strict=True))
        ]
        with self._greedy_settings():
            texts = self._asked(self.lm.generate_until, asked, disable_tqdm=True)
        if len(texts) != len(asked) or not all(isinstance(text, str) for text in texts):
            raise self._rubbish(f"{len(asked)} prompts", texts)
        return [self._response(text, limit) for text, limit in zip(texts, limits, strict=True)]

    def response_logprobs(self, requests: Sequence[Request]) -> list[Floats]:
        """Log-probability in nats of each response after its context, as `likelihood.response_logprobs`.

        Token ids are scored as they are; the same context and response are asked for once. Raises as
        `greedy_responses`, and MeasureError for sums that are no log-probabilities.
        """
        keys: list[list[Key]] = [
            [(tuple(context.tolist()), tuple(response.tolist())) for response in responses]
            for context, responses in requests
        ]
        unique = list(dict.fromkeys(key for row in keys for key in row if key[1]))
        found: dict[Key, float] = dict(zip(unique, self._scores(unique), strict=True))
        return [np.array([found.get(key, 0.0) for key in row], dtype=np.float64) for row in keys]

    def _scores(self, unique: Sequence[Key]) -> list[float]:
        if not unique:
            return []
        asked = [(("", str(i)), list(context), list(response)) for i, (context, response) in enumerate(unique)]
        scored = self._asked(self.lm._loglikelihood_tokens, asked, disable_tqdm=True)
        try:
            values = [float(score) for score, _ in scored]
        except (TypeError, ValueError) as error:
            raise self._rubbish(f"{len(asked)} responses", scored) from error
        if len(values) != len(asked) or not all(-np.inf < value <= ABOVE_ZERO for value in values):
            raise self._rubbish(f"{len(asked)} responses", values)
        return values

    def _decoding(self, limit: int) -> dict[str, Json]:
        """Greedy decoding in lm-eval's words; a dict of its own, because its models change what they are given."""
        return {"until": list(self.ends.values()), "max_gen_toks": limit, "do_sample": False, "temperature": 0.0}

    @contextmanager
    def _greedy_settings(self) -> Iterator[None]:
        """Keeps the loaded checkpoint's own generation settings out; any other backend is asked for none."""
        if self.checkpoint is None:
            yield
            return
        # Without end tokens here a row of a batch would go on after its end, and lm-eval decode what came.
        with plain_greedy(self.checkpoint.model, eos_token_id=list(self.ends) or None):
            yield

    def _require_same_ids(self, text: str, ids: Ids) -> None:
        theirs = list(self._asked(self.lm.tok_encode, text))
        if theirs != ids.tolist():
            raise MeasureError(
                f"Backend {self.backend.name!r} would ask {self.ref.name} other tokens than the pair's format has: "
                f"{len(theirs)} beginning with {self._pieces(theirs)} where {len(ids)} beginning with "
                f"{self._pieces(ids.tolist())} are meant. Measure this checkpoint without the backend."
            )

    def _pieces(self, ids: Sequence[int]) -> str:
        return repr(" ".join(map(str, self.tokenizer.convert_ids_to_tokens(list(ids[:4])))))

    def _response(self, text: str, limit: int) -> Response:
        clean = text.encode(errors="replace").decode()  # a server's JSON may hold half of a surrogate pair
        ids = np.asarray(self.tokenizer(clean, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)
        return Response(ids=ids, ended=len(ids) < limit, text=clean)

    def _asked(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What lm-eval's code returns, quietly; whatever goes wrong in it and behind it as an error of ours."""
        api = is_api(type(self.lm))
        with _silence(bars=api):
            try:
                return call(*given, **named)
            except Exception as error:  # whatever servers, engines and their answers make lm-eval raise
                failure, cause = self._failure(error, api), None if api else error
                # Requests hold the header with the key. Those that failed beside this one are named in asyncio's log
                # when they are freed, so they are freed here.
                traceback.clear_frames(error.__traceback__)
            gc.collect()
        # Outside the handler, so that no cause shows the request.
        raise failure from cause

    def _failure(self, error: Exception, api: bool) -> TuneshiftError:
        if not api:
            return MeasureError(
                f"Backend {self.backend.name!r} failed on {self.ref.name}: {_first(error)}. If memory ran out, name a "
                f"smaller batch_size among its arguments."
            )
        tries = getattr(self.lm, "max_retries", 1)
        return EndpointError(
            f"Backend {self.backend.name!r} at {self.lm.base_url} gave no usable answer for {self.ref.name} "
            f"({_first(error)}{_said(error)}; up to {tries} tries). Finished chunks are kept, and the next run goes on "
            "from there."
        )

    def _rubbish(self, asked: str, answer: object) -> MeasureError:
        shown = repr(answer)[:_SHOWN]
        return MeasureError(
            f"Backend {self.backend.name!r} was asked about {asked} for {self.ref.name} and answered {shown}, which "
            "are not as many texts or log-probabilities (finite, at most 0)."
        )


@contextmanager
def answering(
    backend: LMBackend, ref: ModelRef, *, dtype: str, checkpoint: Checkpoint | None
) -> Iterator[BackendModel]:
    """The checkpoint behind its backend for the length of a ``with`` block; an engine is shut down on leaving.

    ``checkpoint``: the loaded one for lm-eval's ``hf``; None for a backend that has its own weights (or whose server
    does), and then no weights are loaded here. ``dtype``: what an engine in this process computes in; a server has its
    own. Raises UsageError as `backends.require_backend`, and for an adapter that the backend cannot take; MeasureError
    where an engine does not start.
    """
    model = model_class(backend)
    context = inspect(ref).context_length
    given = _loaded_arguments(checkpoint) if checkpoint else _own_arguments(backend, ref, model, dtype, context)
    with ExitStack() as stack:
        lm = _started(backend, ref, model, given)
        stack.callback(_shut_down, lm)
        _check_answers(lm, model)
        tokenizer = load_tokenizer(ref)
        ends = _ends(ref, tokenizer, checkpoint)
        # A backend generates a token to get log-probabilities of a prompt; lm-eval's API models set it aside.
        room = context if checkpoint else min(context, int(getattr(lm, "max_length", context)))
        scored = room + 1 if checkpoint else room if is_api(model) else room - 1
        yield BackendModel(
            ref=ref, backend=backend, lm=lm, tokenizer=tokenizer, context_length=room, scored_length=scored,
            ends=ends, checkpoint=checkpoint,
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
    import inspect as signatures

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
        with _silence(bars=False):
            return model.create_from_arg_obj({**given, **written})
    except Exception as error:  # whatever an engine's start and its arguments lead to
        raise MeasureError(
            f"Backend {backend.name!r} does not start for {ref.name}: {_first(error)}. Its arguments are "
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


def _ends(ref: ModelRef, tokenizer: Any, checkpoint: Checkpoint | None) -> dict[int, str]:
    """End tokens, as our own passes know them, with their texts."""
    if checkpoint is not None:
        owners = (checkpoint.model.generation_config, tokenizer, checkpoint.model.config.get_text_config())
    else:
        owners = (*_configurations(ref), tokenizer)
    texts = {i: str(tokenizer.decode([i], skip_special_tokens=False)) for i in end_tokens(owners)}
    return {i: text for i, text in texts.items() if text}


def _configurations(ref: ModelRef) -> tuple[Any, ...]:
    """The checkpoint's model configuration and, where it has one, its generation configuration."""
    import transformers

    folder = locate(ref)
    with quiet():
        config: Any = transformers.AutoConfig
        found = [
            config.from_pretrained(folder, local_files_only=True, trust_remote_code=ref.trust_remote_code)
            .get_text_config()
        ]  # fmt: skip
        if (folder / "generation_config.json").is_file():
            found.append(transformers.GenerationConfig.from_pretrained(folder, local_files_only=True))
    return tuple(found)


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
            raise ValueError(f"no text in {outputs!r:.{_SHOWN}}")
        return texts

    return parse_generations


@contextmanager
def _silence(*, bars: bool) -> Iterator[None]:
    """Keeps lm-eval's and asyncio's logs off the screen (they hold requests with their headers) and, with ``bars``,
    standard error, where lm-eval's API models draw progress bars whatever they are told."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with ExitStack() as stack:
            stack.enter_context(quiet())
            if bars:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stderr(nowhere))
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first(error: BaseException) -> str:
    return _redacted(first_line(error)[:_SHOWN])


def _said(error: Exception) -> str:
    """What a server wrote beside its refusal."""
    text = getattr(getattr(error, "response", None), "text", None)
    return f", saying {_redacted(text[:_SHOWN])!r}" if isinstance(text, str) and text else ""


def _redacted(text: str) -> str:
    key = os.environ.get(API_KEY, "").strip()
    return text.replace(key, "***") if key else text
