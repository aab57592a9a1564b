"""Backends as they are written: what is refused, and what is looked for before anything starts."""

from __future__ import annotations

import socket
import sys

import pytest

from tuneshift.backends import spec as backends
from tuneshift.backends.spec import arguments, check_backend, identity, parse_backend, require_backend, served_as
from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.errors import EndpointError, UsageError

pytest.importorskip("lm_eval", reason="backends are lm-eval's models (extra `api`)")
URL = "http://127.0.0.1:8000/v1/completions"


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("hf", "hf", {}),
        ("vllm:", "vllm", {}),
        ("vllm: quantization = fp8 ,, seed=1", "vllm", {"quantization": "fp8", "seed": "1"}),
        (f"local-completions:base_url={URL},model=a=b", "local-completions", {"base_url": URL, "model": "a=b"}),
    ],
)
def test_a_backend_is_a_name_and_arguments(text, name, args):
    backend = parse_backend(text)
    assert (backend.name, arguments(backend)) == (name, args)


@pytest.mark.parametrize(
    "text", ["vllm:fast", "vllm:seed=", "vllm:=3", "vllm:a b=3"], ids=["no value", "empty value", "no key", "no name"]
)
def test_what_is_no_argument_is_said(text):
    with pytest.raises(UsageError, match="is no argument; write key=value,key=value"):
        check_backend(parse_backend(text))


@pytest.mark.parametrize("name", [*backends.FROM_CHECKPOINT, *backends.SECRET])
def test_arguments_that_are_the_checkpoints_or_secret_are_refused_without_their_values(name):
    with pytest.raises(UsageError, match=repr(name)) as caught:
        check_backend(LMBackend(name="vllm", args=f"{name}=sesame"))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "no URL of a server"),
        ("http://:80/v1", "no URL of a server"),
        ("http://host:99999/v1", "no URL of a server"),
        ("http://me:sesame@host/v1", "carries a user name, password or query"),
        ("http://host/v1?key=sesame", "carries a user name, password or query"),
        ("ftp://me:sesame@host/v1", "no URL of a server"),
    ],
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused(url, message):
    with pytest.raises(UsageError, match=message) as caught:
        check_backend(LMBackend(name="local-completions", args=f"base_url={url}"))
    assert "sesame" not in str(caught.value)


def test_a_checkpoint_is_asked_for_by_what_vllm_serves_it_as():
    plain, adapted = ModelRef(name="m", model="org/m"), ModelRef(name="a", model="org/m", adapter="org/a")
    asked = LMBackend(name="local-completions", args=f"base_url={URL}")
    assert served_as(asked, plain) == (URL, "org/m")
    assert served_as(asked, adapted) == (URL, "org/a")
    assert served_as(LMBackend(name=asked.name, args=f"{asked.args},model=x"), plain) == (URL, "x")
    assert served_as(LMBackend(name="vllm"), plain) is None


def test_a_key_has_what_changes_numbers():
    backend = LMBackend(name="vllm", args="tensor_parallel_size=2,quantization=fp8,gpu_memory_utilization=0.9,seed=1")
    assert identity(backend) == {"name": "vllm", "args": {"quantization": "fp8", "seed": "1"}}
    assert {identity(LMBackend(name=name))["name"] for name in backends.LOADED} == {"hf"}


def test_lm_eval_has_to_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.models", None)
    with pytest.raises(UsageError, match=r"lm-eval is not installed; pip install 'tuneshift\[api\]'"):
        check_backend(LMBackend(name="hf"))


@pytest.mark.parametrize(
    ("backend", "package"),
    [("vllm", "vllm"), ("sglang", "sglang"), (f"local-completions:base_url={URL}", "tenacity")],
)
def test_a_missing_package_is_named_before_anything_starts(monkeypatch, backend, package):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(UsageError, match=rf"\b{package}\b"):
        require_backend(parse_backend(backend))


def test_a_model_that_takes_text_alone_is_refused():
    with pytest.raises(UsageError, match=r"'dummy' \(DummyLM\) takes text alone"):
        require_backend(LMBackend(name="dummy"))


def test_a_server_has_to_take_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        backend = LMBackend(name="local-completions", args=f"base_url=http://127.0.0.1:{port}/v1/completions")
        require_backend(backend)
    with pytest.raises(EndpointError, match=f"the server at 127.0.0.1:{port} cannot be reached"):
        require_backend(backend)


def test_behind_a_proxy_the_server_is_not_looked_for(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    require_backend(LMBackend(name="local-completions", args="base_url=http://server.invalid/v1/completions"))
