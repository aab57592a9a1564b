"""A server on 127.0.0.1 that answers in OpenAI's completions format from a checkpoint of its own, and can misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

END = 0
"""The end token of the tiny checkpoints."""
Reply = tuple[int, Any]
"""Status, and a JSON value or a text."""


class CompletionsServer:
    """``behave(answer, number)`` may give another reply than ``answer()``, the right one, to request ``number`` (from
    1), or None to stall until the server is closed. ``bodies`` are the requests so far."""

    def __init__(self, folder: Path, behave: Callable[[Callable[[], Reply], int], Reply | None] | None = None) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.closing = threading.Event()
        self.behave = behave or (lambda answer, number: answer())
        lock, stub = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    stub.bodies.append(body)
                    stub.keys.append(self.headers["Authorization"])
                    reply = stub.behave(lambda: (200, stub.complete(body)), len(stub.bodies))
                if reply is None:
                    stub.closing.wait(20)
                    return
                status, content = reply
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):  # a client that has given up
                    self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/completions"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        make = self._echoed if body.get("echo") else self._generated
        return {"object": "text_completion", "choices": [{"index": i, **make(p, body)} for i, p in enumerate(prompts)]}

    def _generated(self, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        ids = list(prompt)
        while len(ids) - len(prompt) < body["max_tokens"]:
            ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == END:
                break
        return {"text": self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True), "finish_reason": "stop"}

    def _echoed(self, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        """Log-probabilities of the prompt's tokens, none for the first, and of one new token."""
        scores = self.model(torch.tensor([prompt])).logits[0].log_softmax(-1)  # [token, vocab]
        following = [*prompt[1:], int(scores[-1].argmax())]
        logprobs = [None, *(float(scores[i, token]) for i, token in enumerate(following))]
        top = [None, *({str(int(row.argmax())): float(row.max())} for row in scores)]
        return {"text": "", "logprobs": {"token_logprobs": logprobs, "top_logprobs": top}}
