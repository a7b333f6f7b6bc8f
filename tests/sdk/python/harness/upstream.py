"""A Messages API that says exactly what a test tells it to, reached through `--model-url`.

Each test scripts its own model id, so tests do not disturb each other. A request nobody scripted is
answered with an error and recorded: the fixture fails the test for it.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .watch import PATIENCE_S, Gone

_ids = itertools.count(1)


class Gate:
    """A point in an answer where the model waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def wait_reached(self) -> None:
        """Waits until the answer has come this far."""
        if not self._reached.wait(PATIENCE_S):
            raise Gone("the model request never came to its gate")

    def open(self) -> None:
        """Lets the answer go on."""
        self._open.set()

    def pass_through(self) -> None:
        self._reached.set()
        self._open.wait(PATIENCE_S)


@dataclass
class Refuse:
    """An HTTP error instead of an answer."""

    status: int
    kind: str
    message: str = "scripted failure"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Break:
    """An `event: error` frame in the middle of a stream."""

    kind: str = "overloaded_error"
    message: str = "scripted break"


class Cut:
    """The connection drops without a word."""


def text(value: str, pieces: int = 3) -> dict[str, Any]:
    """A text block, streamed in a few deltas."""
    return {"type": "text", "text": value, "_pieces": pieces}


def thinking(value: str, signature: str) -> dict[str, Any]:
    """A thinking block with its signature."""
    return {"type": "thinking", "thinking": value, "signature": signature}


def tool(name: str, input: dict[str, Any], id: str | None = None) -> dict[str, Any]:
    """A tool call."""
    return {"type": "tool_use", "id": id or f"toolu_{next(_ids):06}", "name": name, "input": input}


USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}


@dataclass
class Answer:
    """One model answer: blocks, and between them gates, breaks and cuts."""

    parts: list[Any]
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    usage: dict[str, Any] = field(default_factory=lambda: dict(USAGE))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return [_public(p) for p in self.parts if isinstance(p, dict)]

    @property
    def why(self) -> str:
        called = any(b["type"] == "tool_use" for b in self.blocks)
        return self.stop_reason or ("tool_use" if called else "end_turn")


@dataclass
class Request:
    """What the server sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Script:
    """What one model will say, in order, and what it was asked."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.replies: deque[Any] = deque()
        self.requests: list[Request] = []
        self.unexpected: list[Request] = []
        self.gates: list[Gate] = []
        self.tokens = 42
        self._lock = threading.Lock()

    def say(self, *parts: Any, **kw: Any) -> Script:
        """Queues an answer; a plain string stands for a text block."""
        parts = [text(p) if isinstance(p, str) else p for p in parts]
        self.gates += [p for p in parts if isinstance(p, Gate)]
        self.replies.append(Answer(list(parts), **kw))
        return self

    def fail(self, status: int, kind: str, message: str = "scripted failure", **headers: str) -> Script:
        """Queues an HTTP error; header names with underscores."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        self.replies.append(Refuse(status, kind, message, named))
        return self

    def gate(self) -> Gate:
        """A gate to put into an answer."""
        return Gate()

    def take(self, request: Request) -> Any:
        with self._lock:
            self.requests.append(request)
            if self.replies:
                return self.replies.popleft()
            self.unexpected.append(request)
            return Refuse(400, "invalid_request_error", "the test's script has no answer left")

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def release(self) -> None:
        """Opens every gate, so that no thread of a failed test stays behind."""
        for gate in self.gates:
            gate.open()


class Upstream:
    """The listening half."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.scripts: dict[str, Script] = {}
        self.stray: list[Request] = []
        upstream = self

        class Handler(_Handler):
            owner = upstream

        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = "http://%s:%d" % self._server.server_address[:2]

    def script(self, model: str | None = None) -> Script:
        """A fresh script; for its own model id unless one is named."""
        model = model or f"scripted-{next(_ids):05}"
        script = Script(model)
        self.scripts[model] = script
        return script

    def close(self) -> None:
        for script in self.scripts.values():
            script.release()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Upstream
    # One request a connection: the end of the body is the end of the connection.
    protocol_version = "HTTP/1.0"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:  # noqa: N802 - named by the base class
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length))
        request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        script = self.owner.scripts.get(body.get("model", ""))
        if script is None:
            self.owner.stray.append(request)
            self._json(404, _error("not_found_error", f"model: {body.get('model')}"))
        elif self.path.split("?")[0].endswith("/count_tokens"):
            script.requests.append(request)
            self._json(200, {"input_tokens": script.tokens})
        else:
            try:
                self._play(script.take(request), body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The server hung up, as it does on an interrupt.

    def _play(self, reply: Any, body: dict[str, Any]) -> None:
        if isinstance(reply, Refuse):
            self._json(reply.status, _error(reply.kind, reply.message), reply.headers)
        elif body.get("stream"):
            self._stream(reply, body["model"])
        else:
            self._json(200, _message(reply, body["model"]))

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("request-id", "req_upstream")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: Answer, model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        start = _message(answer, model) | {"content": [], "stop_reason": None, "stop_details": None}
        start["usage"] = answer.usage | {"output_tokens": 1}
        self._event("message_start", {"message": start})
        index = 0
        for part in answer.parts:
            if isinstance(part, Gate):
                part.pass_through()
            elif isinstance(part, Break):
                self._event("error", {"error": {"type": part.kind, "message": part.message}})
                return
            elif isinstance(part, Cut):
                return
            else:
                self._block(index, part)
                index += 1
        delta = {
            "stop_reason": answer.why,
            "stop_sequence": None,
            "stop_details": answer.stop_details,
            "container": None,
        }
        self._event("message_delta", {"delta": delta, "usage": answer.usage})
        self._event("message_stop", {})

    def _block(self, index: int, part: dict[str, Any]) -> None:
        block = _public(part)
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        self._event("content_block_start", {"index": index, "content_block": block | empty[kind]})
        for delta in _deltas(part):
            self._event("content_block_delta", {"index": index, "delta": delta})
            if "_gate" in part:
                part["_gate"].pass_through()
        self._event("content_block_stop", {"index": index})

    def _event(self, name: str, data: dict[str, Any]) -> None:
        frame = f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
        self.wfile.write(frame.encode())
        self.wfile.flush()


def gated_text(value: str, gate: Gate) -> dict[str, Any]:
    """A text block that stops at the gate after its first delta."""
    return {"type": "text", "text": value, "_pieces": 2, "_gate": gate}


def _deltas(part: dict[str, Any]) -> list[dict[str, Any]]:
    if part["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in _pieces(part["text"], part.get("_pieces", 3))]
    if part["type"] == "thinking":
        return [
            {"type": "thinking_delta", "thinking": part["thinking"]},
            {"type": "signature_delta", "signature": part["signature"]},
        ]
    return [{"type": "input_json_delta", "partial_json": p} for p in _pieces(json.dumps(part["input"]), 2)]


def _pieces(value: str, n: int) -> list[str]:
    size = max(1, -(-len(value) // n))
    return [value[i : i + size] for i in range(0, len(value), size)]


def _public(part: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if not k.startswith("_")}


def _message(answer: Answer, model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{next(_ids):08}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": answer.blocks,
        "stop_reason": answer.why,
        "stop_sequence": None,
        "stop_details": answer.stop_details,
        "container": None,
        "usage": answer.usage,
    }


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_upstream"}
