"""Real MCP servers on loopback: FastMCP, and behind it a small OAuth token endpoint."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from .watch import wait_until

# A folder of its own: what lies beside a script hides packages of the same name from it.
SERVERS = Path(__file__).resolve().parent.parent / "servers"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Fast:
    """A FastMCP server in a process of its own; see `servers/fast.py` for its tools."""

    def __init__(self, log: Path, *, tokens: list[str] | None = None, port: int | None = None, variant: str = "") -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.log = log
        self._args = [json.dumps({"port": self.port, "tokens": tokens, "variant": variant})]
        self.start()

    def start(self) -> None:
        out = self.log.open("ab")
        command = [sys.executable, str(SERVERS / "fast.py"), *self._args]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until("the MCP server", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def control(self, path: str) -> Any:
        """What the server itself tells the test, past MCP."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class TokenEndpoint:
    """An OAuth token endpoint that rotates refresh tokens: each is good once."""

    def __init__(self, refresh: str) -> None:
        self.good = refresh
        self.calls: list[dict[str, str]] = []
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        self.issued = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {k: v[0] for k, v in parse_qs(body).items()}
                form["authorization"] = self.headers.get("authorization", "")
                status, answer, headers = outer._answer(form)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, form: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        json_type = {"content-type": "application/json"}
        with self._lock:
            self.calls.append(form)
            if self.answer:
                return self.answer
            if form.get("refresh_token") != self.good:
                return 400, b'{"error":"invalid_grant"}', json_type
            self.issued += 1
            self.good = f"refresh-{self.issued}-of-the-test"
            tokens = {
                "access_token": f"access-{self.issued}-of-the-test",
                "refresh_token": self.good,
                "expires_in": 3600,
                "token_type": "Bearer",
            }
            return 200, json.dumps(tokens).encode(), json_type

    def stop(self) -> None:
        self._server.shutdown()
