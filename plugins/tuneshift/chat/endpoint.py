"""A language model behind an OpenAI-compatible URL: answers are cached on disk, so what was answered is asked once."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import EndpointError, UsageError
from ..plain import Json
from .answers import Answers, Progress

Messages = Sequence[Mapping[str, str]]
"""A conversation: ``{"role": "system" | "user" | "assistant", "content": text}``, in order."""

RENAMED = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None}
"""Parameters that some servers refuse by name, and what they are sent as instead (None: not at all)."""
_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One question: the conversation so far, the seed that the server samples with, the longest answer in tokens."""

    messages: Messages
    seed: int
    max_tokens: int


def parse_endpoint(spec: str) -> tuple[str, str]:
    """Model and URL of ``openai:MODEL@URL``, as ``openai:qwen2.5-7b-instruct@http://localhost:8000/v1``.

    Raises UsageError for any other form, and for a URL that carries a user name or password.
    """
    found = re.fullmatch(r"openai:(?P<model>[^\s]+?)@(?P<url>https?://[^\s]+)", spec)
    if found is None or not urlsplit(found["url"]).hostname:
        shown = re.sub(r"://[^/@\s]*@", "://***@", spec)
        raise UsageError(
            f"{shown!r} is not an endpoint; write openai:MODEL@URL, with the URL up to and including its version, as "
            "openai:gpt-4o-mini@https://api.openai.com/v1."
        )
    if urlsplit(found["url"]).username is not None:
        raise UsageError(
            f"The URL of model {found['model']!r} carries a user name or password, which would end up in records; "
            "put the key into the environment variable OPENAI_API_KEY instead."
        )
    return found["model"], found["url"].rstrip("/")


@dataclass(frozen=True, kw_only=True)
class ChatEndpoint:
    """A model at an OpenAI-compatible chat endpoint (OpenAI, vLLM, llama.cpp, Ollama, ...).

    ``url`` ends in the version, as ``https://api.openai.com/v1``. The key is read from the environment variable
    ``key_variable`` when a request goes out; it is in no cache entry, message or ``repr``. Servers that need none are
    asked without. ``cache`` is a folder that may be shared by processes: an answer is found there by the hash of host,
    path, model, messages, seed and parameters. ``timeout`` is in seconds, per try; ``retries`` more tries follow a
    timeout, a lost connection, 408, 409, 429 or 5xx, after what Retry-After says or else 0.5 s and doubling. A
    parameter that the server refuses by name (newer models refuse ``max_tokens`` and ``temperature``) is renamed or
    left out, from then on for all requests. ``workers`` requests are under way at once in `ask_all`.

    Needs the package ``openai`` (``pip install 'tuneshift[openai]'``).
    """

    model: str
    url: str
    cache: Path
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 5
    temperature: float = 0.0
    workers: int = 4
    _refused: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def identity(self) -> dict[str, Json]:
        """What decides an answer beside the question: JSON without the key."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return {
            "model": self.model,
            "server": f"{parts.hostname}{port}{parts.path}",
            "temperature": self.temperature,
        }

    def ask(self, messages: Messages, *, seed: int, max_tokens: int) -> str:
        """The model's answer, from the cache or from the server; empty where the model said nothing.

        Raises EndpointError where the server refuses, keeps failing after all retries or answers in another protocol,
        and UsageError where the package ``openai`` is missing.
        """
        request = ChatRequest(messages=messages, seed=seed, max_tokens=max_tokens)
        answers = Answers(self.cache)
        question = [dict(message) for message in messages]
        path = answers.path(self.identity, question, seed, max_tokens)
        answer = answers.read(path)
        if answer is None:
            answer = self._redacted(self._fetch(request))
            try:
                answers.keep(path, answer, **self.identity, seed=seed)
            except OSError as error:
                raise EndpointError(
                    f"The answer of model {self.model!r} cannot be kept in {path.parent} ({error.strerror}); answers "
                    "that are paid for are not thrown away, so free some space or choose another cache folder."
                ) from error
        return answer

    def ask_all(self, requests: Sequence[ChatRequest], progress: Progress | None = None) -> list[str]:
        """Answers in the order of the requests, several asked at once.

        The first failure stops the rest: what is under way is finished and cached, what has not begun is dropped, and
        the EndpointError says how many answers are kept. Asking again asks only for what is missing.
        """
        pool = ThreadPoolExecutor(max_workers=self.workers, thread_name_prefix="tuneshift-endpoint")
        waiting = [pool.submit(self.ask, r.messages, seed=r.seed, max_tokens=r.max_tokens) for r in requests]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(requests))
        except EndpointError as error:
            pool.shutdown(wait=True, cancel_futures=True)
            kept = sum(not f.cancelled() and f.exception() is None for f in waiting)
            raise EndpointError(f"{error} {kept} of {len(requests)} answers are kept in {self.cache}.") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in waiting]

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    @cached_property
    def _client(self) -> Any:
        # A server that wants no key still gets a header; the client refuses to be made without one.
        return _openai().OpenAI(
            api_key=self._key or "none", base_url=self.url, timeout=self.timeout, max_retries=self.retries
        )

    def _fetch(self, request: ChatRequest) -> str:
        openai = _openai()
        try:
            return self._completion(request)
        except openai.BadRequestError as error:
            if error.param in RENAMED and error.param not in self._refused:
                self._refused.add(error.param)
                return self._fetch(request)
            reason = self._reason(error)
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            reason = self._reason(error)
        # Outside the handlers, so that no traceback shows the client's own error: a server may have put the key there.
        raise EndpointError(f"Model {self.model!r} at {self.identity['server']} {self._redacted(reason)}")

    def _completion(self, request: ChatRequest) -> str:
        wished = {"max_tokens": request.max_tokens, "temperature": self.temperature, "seed": request.seed}
        given: dict[str, Any] = {}
        for name, value in wished.items():
            sent = RENAMED[name] if name in self._refused else name
            given |= {} if sent is None else {sent: value}
        messages = [dict(message) for message in request.messages]
        made = self._client.chat.completions.create(model=self.model, messages=messages, **given)
        choices = getattr(made, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            raise _openai().OpenAIError(f"answered something else than a chat completion: {str(made)[:_SHOWN]!r}")
        return str(message.content or "")

    def _reason(self, error: Exception) -> str:
        openai = _openai()
        tries = f"{self.retries + 1} {'try' if self.retries == 0 else 'tries'}"
        if isinstance(error, openai.APITimeoutError):
            return f"gave no answer within {self.timeout:g} s in {tries}."
        if isinstance(error, openai.APIConnectionError):
            return f"cannot be reached ({error.__cause__ or error}) in {tries}; is the server up, and the URL right?"
        if isinstance(error, openai.RateLimitError):
            return f"limits the rate of requests, still after {tries}: {_said(error)} Try later; answers are kept."
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            have = f"refused the key in ${self.key_variable}" if self._key else f"wants a key: set ${self.key_variable}"
            return f"{have} ({_said(error)})."
        if isinstance(error, openai.APIStatusError):
            return f"failed in {tries}: {_said(error)}" if error.status_code >= 500 else f"refused: {_said(error)}"
        if isinstance(error, json.JSONDecodeError):
            return "answered something else than JSON; does the URL end in the API's version, as in /v1?"
        return f"{str(error)[:_SHOWN]}; does the URL end in the API's version, as in /v1?"

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _said(error: Any) -> str:
    return f"HTTP {error.status_code}, {str(error.message)[:_SHOWN]!r}."


def _openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise UsageError(
            "A model at an endpoint is asked through the package 'openai', which is not installed; run: pip install "
            "'tuneshift[openai]'."
        ) from error
