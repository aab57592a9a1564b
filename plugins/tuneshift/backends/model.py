"""A checkpoint that answers through lm-eval's model interface: greedy responses and log-likelihoods of token ids.

The numbers and their layout are those of our own passes (`decoding.greedy_responses`,
`likelihood.response_logprobs`); what lm-eval's interface does not pass on is named where it is missing.
"""

from __future__ import annotations

import gc
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.decoding import Response, plain_greedy
from ..checkpoints.loading import Checkpoint
from ..checkpoints.quiet import first_line, quiet
from ..checkpoints.refs import LMBackend, ModelRef
from ..errors import EndpointError, MeasureError, TuneshiftError
from ..plain import Json
from .spec import API_KEY, is_api

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Request = tuple[Ids, Sequence[Ids]]
Key = tuple[tuple[int, ...], tuple[int, ...]]

ABOVE_ZERO = 1e-3
"""How far rounding in half precision may lift a log-probability over 0."""
LONGEST_SHOWN = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class BackendModel:
    """One checkpoint behind a backend, valid inside `backend_start.answering`'s block.

    ``context_length``: tokens that a prompt and the response generated for it may have together. ``scored_length``: the
    same where the response is given: to score a prompt, engines and servers generate a token after it, which needs a
    place. ``checkpoint``: the loaded one where the backend computes with it.
    """

    ref: ModelRef
    backend: LMBackend
    lm: Any
    tokenizer: Any
    context_length: int
    scored_length: int
    checkpoint: Checkpoint | None

    def greedy_responses(
        self,
        prompts: Sequence[tuple[str, Ids]],
        *,
        special_tokens: bool,
        max_new_tokens: int,
        ends: Sequence[int],
        batch_share: float = 1.0,
    ) -> list[Response]:
        """Each prompt's greedy response, in the order given, as `decoding.greedy_responses`.

        prompts: what is tokenised (`tokens.prompt_text`) with its ids; ``special_tokens``: whether tokenising adds any;
        ``batch_share``: size of lm-eval's batches against the usual, where they are ours (`spec.has_our_batches`).
        ``ends``: ids of the tokens that end a response, whose texts are the backend's stop strings.
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
        stops = [text for text in (self._text(i) for i in ends) if text]
        asked = [
            instance(request_type="generate_until", doc={}, arguments=(text, _decoding(stops, limit)), idx=i)
            for i, ((text, _), limit) in enumerate(zip(prompts, limits, strict=True))
        ]
        with self._greedy_settings(ends), self._batches(batch_share):
            texts = self._asked(self.lm.generate_until, asked, disable_tqdm=True)
        if len(texts) != len(asked) or not all(isinstance(text, str) for text in texts):
            raise self._rubbish(f"{len(asked)} prompts", texts)
        return [self._response(text, limit) for text, limit in zip(texts, limits, strict=True)]

    def response_logprobs(self, requests: Sequence[Request], *, batch_share: float = 1.0) -> list[Floats]:
        """Log-probability in nats of each response after its context, as `likelihood.response_logprobs`.

        Token ids are scored as they are; the same context and response are asked for once. Raises as
        `greedy_responses`, and MeasureError for sums that are no log-probabilities.
        """
        keys: list[list[Key]] = [
            [(tuple(context.tolist()), tuple(response.tolist())) for response in responses]
            for context, responses in requests
        ]
        unique = list(dict.fromkeys(key for row in keys for key in row if key[1]))
        with self._batches(batch_share):
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

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token], skip_special_tokens=False))

    @contextmanager
    def _greedy_settings(self, ends: Sequence[int]) -> Iterator[None]:
        """Keeps the loaded checkpoint's own generation settings out; any other backend is asked for none."""
        if self.checkpoint is None:
            yield
            return
        # Without end tokens here a row of a batch would go on after its end, and lm-eval decode what came.
        with plain_greedy(self.checkpoint.model, eos_token_id=list(ends) or None):
            yield

    @contextmanager
    def _batches(self, share: float) -> Iterator[None]:
        """Has lm-eval's ``hf`` take batches of another size for a while."""
        if share == 1:
            yield
            return
        usual = self.lm.batch_size_per_gpu
        self.lm.batch_size_per_gpu = max(1, int(usual * share))
        try:
            yield
        finally:
            self.lm.batch_size_per_gpu = usual

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
        with silence(bars=api):
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
                f"Backend {self.backend.name!r} failed on {self.ref.name}: {shown(error)}. If memory ran out, name a "
                f"smaller batch_size among its arguments."
            )
        tries = getattr(self.lm, "max_retries", 1)
        return EndpointError(
            f"Backend {self.backend.name!r} at {self.lm.base_url} gave no usable answer for {self.ref.name} "
            f"({shown(error)}{_said(error)}; up to {tries} tries). Finished chunks are kept, and the next run goes on "
            "from there."
        )

    def _rubbish(self, asked: str, answer: object) -> MeasureError:
        shown = repr(answer)[:LONGEST_SHOWN]
        return MeasureError(
            f"Backend {self.backend.name!r} was asked about {asked} for {self.ref.name} and answered {shown}, which "
            "are not as many texts or log-probabilities (finite, at most 0)."
        )


def _decoding(stops: Sequence[str], limit: int) -> dict[str, Json]:
    """Greedy decoding in lm-eval's words; a dict of its own, because its models change what they are given."""
    return {"until": list(stops), "max_gen_toks": limit, "do_sample": False, "temperature": 0.0}


@contextmanager
def silence(*, bars: bool) -> Iterator[None]:
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


def shown(error: BaseException) -> str:
    """Type and first line of an error for a message of ours: cut, without the key and without control characters."""
    text = _redacted(first_line(error))[:LONGEST_SHOWN]
    return "".join(character if character.isprintable() else "?" for character in text)


def _said(error: Exception) -> str:
    """What a server wrote beside its refusal."""
    text = getattr(getattr(error, "response", None), "text", None)
    return f", saying {_redacted(text)[:LONGEST_SHOWN]!r}" if isinstance(text, str) and text else ""


def _redacted(text: str) -> str:
    key = os.environ.get(API_KEY, "").strip()
    return text.replace(key, "***") if key else text
