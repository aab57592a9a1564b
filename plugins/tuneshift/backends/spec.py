"""Which of lm-eval's models scores and generates for a checkpoint, checked before anything long starts.

A backend only computes: evidence stays keyed by the fingerprint of the checkpoint's weights, and that a server serves
this checkpoint is the user's word. lm-eval is imported where it is used, never at the top.
"""

from __future__ import annotations

import re
import socket
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..checkpoints.refs import LMBackend, ModelRef
from ..errors import EndpointError, UsageError, did_you_mean
from ..plain import Json

NONE = "none"
"""Names our own passes, for a checkpoint that the run's backend is not to serve."""
LOADED = ("hf", "hf-auto", "huggingface")
"""lm-eval's names of the backend that takes the checkpoint as this process has loaded it."""
NEED_URL = ("local-completions", "sglang-generate")
SECRET = ("auth_token", "header")
"""Arguments that hold a key. Command lines and pair files end up in records, so the key goes into the environment."""
FROM_CHECKPOINT = (
    "pretrained", "revision", "subfolder", "tokenizer", "tokenizer_path", "tokenizer_backend", "dtype", "peft",
    "delta", "gguf_file", "lora_local_path", "trust_remote_code", "add_bos_token",
)  # fmt: skip
"""Arguments that say what is computed on. Another model here would answer under this checkpoint's fingerprint."""
CARRIAGE = (
    "base_url", "model", "num_concurrent", "max_retries", "timeout", "batch_size", "max_batch_size",
    "verify_certificate", "ca_cert_path", "device", "tensor_parallel_size", "data_parallel_size", "tp_size", "dp_size",
    "gpu_memory_utilization", "mem_fraction_static",
)  # fmt: skip
"""Arguments that say where and how fast, not what: they are left out of the evidence's key."""
PACKAGES = {"vllm": ("vllm",), "sglang": ("sglang",)}
API_PACKAGES = ("aiohttp", "requests", "tenacity", "tqdm")
API_KEY = "OPENAI_API_KEY"
"""The environment variable that lm-eval's API models read the key from."""
INSTALL = "pip install 'tuneshift[api]'"
CONNECT_SECONDS = 5.0


def parse_backend(text: str) -> LMBackend:
    """The backend that ``NAME[:ARGS]`` names, ARGS as lm-eval's ``--model_args`` (``key=value,key=value``)."""
    name, _, args = text.partition(":")
    return LMBackend(name=name.strip(), args=args.strip())


def arguments(backend: LMBackend) -> dict[str, str]:
    """The backend's own arguments, values as they were written.

    Raises UsageError for anything but ``key=value`` between commas, and for arguments that hold a secret or that are
    the checkpoint's to say.
    """
    found: dict[str, str] = {}
    for part in filter(str.strip, backend.args.split(",")):
        key, equals, value = (text.strip() for text in part.partition("="))
        if not re.fullmatch(r"[A-Za-z_]\w*", key) or not equals or not value:
            raise UsageError(f"backend {backend.name!r}: {part!r} is no argument; write key=value,key=value.")
        if key in SECRET:
            raise UsageError(
                f"backend {backend.name!r}: {key!r} would put a key into records; set the environment variable "
                f"{API_KEY} instead."
            )
        if key in FROM_CHECKPOINT:
            raise UsageError(
                f"backend {backend.name!r}: {key!r} is taken from the checkpoint, under whose fingerprint the evidence "
                "is kept; leave it out, and name another checkpoint to measure another."
            )
        found[key] = value
    return found


def is_loaded(backend: LMBackend) -> bool:
    """Whether the backend computes with the checkpoint that this process loads, and not with weights of its own."""
    return backend.name in LOADED


def is_served(backend: LMBackend) -> bool:
    """Whether a server answers, which computes in its own precision and batches whatever is asked of it here."""
    return "base_url" in arguments(backend) or backend.name.endswith(("-completions", "-generate"))


def has_our_batches(backend: LMBackend) -> bool:
    """Whether the size of its batches is ours to choose: not an engine's or server's, nor one found by trying."""
    return is_loaded(backend) and not arguments(backend).get("batch_size", "").startswith("auto")


def identity(backend: LMBackend) -> dict[str, Json]:
    """What of a backend belongs to an evidence's key: its name and those arguments that can change a number.

    Where a server runs, how it calls the model and how many requests are under way is left out.
    """
    name = LOADED[0] if is_loaded(backend) else backend.name
    return {"name": name, "args": {k: v for k, v in sorted(arguments(backend).items()) if k not in CARRIAGE}}


def backend_provenance(backend: LMBackend, ref: ModelRef) -> dict[str, Json]:
    """What stands in the provenance of evidence that a backend computed: all of its arguments, lm-eval's version and,
    for a server, what the checkpoint was asked for by. The server's word for what it serves is not checked."""
    served = served_as(backend, ref)
    return {
        "name": backend.name,
        "args": arguments(backend),
        "lm_eval": lm_eval_version(),
        **({} if served is None else {"model": served[1]}),
    }


def served_as(backend: LMBackend, ref: ModelRef) -> tuple[str, str] | None:
    """URL of the server and the name that the checkpoint is asked for by; None for a backend without a URL.

    The name is the argument ``model``, else the checkpoint's folder or hub id, which is what vLLM serves it as.
    """
    given = arguments(backend)
    url = given.get("base_url")
    return None if url is None else (url, given.get("model") or default_name(ref))


def default_name(ref: ModelRef) -> str:
    """What a server is asked for a checkpoint by where no ``model`` is given: its adapter, folder or hub id."""
    return str(ref.adapter or ref.model)


def check_backend(backend: LMBackend) -> None:
    """Look for what is wrong with a backend as it was written; loads and contacts nothing.

    Raises UsageError where lm-eval is not installed, for a name that its registry does not have (near misses are
    listed), for chat endpoints, and for malformed, secret or missing arguments.
    """
    known = _registry().model_registry
    if backend.name not in known:
        raise UsageError(f"lm-eval has no model {backend.name!r} for a backend; {did_you_mean(backend.name, known)}.")
    if "chat" in backend.name or backend.name == "litellm":
        raise UsageError(
            f"backend {backend.name!r} asks in the server's own chat format and gives no log-probabilities of a given "
            "response; take local-completions, which sends the pair's format token by token."
        )
    given = arguments(backend)
    if backend.name in NEED_URL and "base_url" not in given:
        raise UsageError(
            f"backend {backend.name!r} needs the URL of its server, as "
            f"{backend.name}:base_url=http://127.0.0.1:8000/v1/completions."
        )
    if "base_url" in given:
        _url(backend, given["base_url"])


def require_backend(backend: LMBackend) -> None:
    """Look for what would stop a backend from answering: packages and, behind a URL, a server that takes connections.

    Raises UsageError for a missing package and a model that cannot score token ids, EndpointError for a server that
    cannot be reached within five seconds (not looked for behind a proxy).
    """
    model_class(backend)
    url = arguments(backend).get("base_url")
    if url is not None and not _behind_proxy(_url(backend, url)):
        _connect(backend, _url(backend, url))


def model_class(backend: LMBackend) -> Any:
    """lm-eval's class of the backend. Raises UsageError as `require_backend`."""
    try:
        found = _registry().get_model(backend.name)
        missing = [name for name in _packages(backend, found) if find_spec(name) is None]
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"backend {backend.name!r} cannot be imported ({type(error).__name__}: {error}); install the package that "
            f"it needs, as lm-eval's extra of that name says, or leave the backend out."
        ) from error
    if missing:
        how = INSTALL if is_api(found) else f"see how {', '.join(missing)} is installed"
        raise UsageError(f"backend {backend.name!r} needs {', '.join(missing)}, which is not installed; {how}.")
    if not issubclass(found, import_module("lm_eval.api.model").TemplateLM):
        raise UsageError(
            f"backend {backend.name!r} ({found.__name__}) takes text alone; a backend has to score token ids, so that "
            "no token straddles the end of the prompt (a subclass of lm-eval's TemplateLM)."
        )
    return found


def is_api(model: Any) -> bool:
    """Whether a class of lm-eval asks a server over HTTP."""
    return issubclass(model, import_module("lm_eval.models.api_models").TemplateAPI)


def lm_eval_version() -> str:
    """The version of lm-eval, whose code stands between us and the backend."""
    from importlib.metadata import version

    return version("lm_eval")


def _registry() -> Any:
    """lm-eval's registry of models, filled."""
    try:
        import_module("lm_eval.models")
        return import_module("lm_eval.api.registry")
    except ImportError as error:
        raise UsageError(f"a backend is one of lm-eval's models, and lm-eval is not installed; {INSTALL}.") from error


def _packages(backend: LMBackend, model: Any) -> tuple[str, ...]:
    return PACKAGES.get(backend.name, API_PACKAGES if is_api(model) else ())


def _url(backend: LMBackend, text: str) -> SplitResult:
    """The URL in its parts. Raises UsageError for none, and for one that carries a password."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    shown = re.sub(r"://[^/@\s]*@", "://***@", text)
    if not valid:
        raise UsageError(
            f"backend {backend.name!r}: base_url {shown!r} is no URL of a server, as "
            "http://127.0.0.1:8000/v1/completions."
        )
    if parts.username is not None or parts.query:
        raise UsageError(
            f"backend {backend.name!r}: base_url carries a user name, password or query, which would end up in "
            f"records; set the environment variable {API_KEY} instead."
        )
    return parts


def _behind_proxy(parts: SplitResult) -> bool:
    from urllib.request import getproxies, proxy_bypass

    return parts.scheme in getproxies() and not proxy_bypass(str(parts.hostname))


def _connect(backend: LMBackend, parts: SplitResult) -> None:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise EndpointError(
            f"backend {backend.name!r}: the server at {parts.hostname}:{port} cannot be reached ({error}); start it, "
            "or correct base_url. Nothing was measured in this run; what the store holds stays."
        ) from error
