"""A stub of an OpenAI-compatible chat server on this machine, and the replies that it can give."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub:
    """A server on a free port. ``behave(body, number)`` gives (status, headers, JSON or text) or None to stall."""

    def __init__(self, behave):
        self.bodies, self.keys = [], []
        self.closing = threading.Event()
        lock, stub = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    stub.bodies.append(body)
                    stub.keys.append(self.headers["Authorization"])
                    number = len(stub.bodies)
                reply = behave(body, number)
                if reply is None:
                    stub.closing.wait(10)
                    return
                status, headers, content = reply
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(status)
                kind = "text/html" if isinstance(content, str) else "application/json"
                for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


def completion(text):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return 200, {}, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def failure(status, message, **headers):
    return status, headers, {"error": {"message": message, "type": "t", "param": None, "code": None}}
