"""One server process on a port and a data directory of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import postgres
from .watch import PATIENCE_S

# It promises to stop within ten seconds.
STOPPING_S = 30
LISTENING = re.compile(r"listening on (http://[0-9.:]+)")


def binary() -> str:
    """The program under test, named by `FREEHOLD_BIN` (`cargo xtask test` sets it)."""
    path = os.environ.get("FREEHOLD_BIN")
    if not path:
        raise RuntimeError("FREEHOLD_BIN must name the server binary; `cargo xtask test --only python` sets it")
    return path


class Server:
    """Starts in the constructor; `url` and `key` are what a client needs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Server:
        # Wherever a test starts a server it gets several, if that is what the suite runs on.
        from .replicas import Replicas, wanted

        return super().__new__(Replicas if cls is Server and wanted() else cls)

    def __init__(
        self,
        folder: Path,
        model_url: str | None,
        config: str,
        key: str = "sk-fh-python-sdk-tests",
        listen: str = "127.0.0.1:0",
        database: str | None = None,
        before: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        """`before` is what the command is run with, on another host for example; `env` comes on top."""
        self.folder = folder
        self.before = before
        self.env = env or {}
        self._listen = listen
        self.key = key
        self.model_url = model_url
        self._config = folder / "freehold.toml"
        self._config.write_text(config)
        self.log = folder / "server.log"
        self.database = database or (postgres.cluster().database() if postgres.wanted() else None)
        self.start()

    def start(self) -> None:
        """Starts, or starts again on the same data directory, and waits until it listens."""
        env = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "TMPDIR", "USER", "LANG"}}
        env["FREEHOLD_BOOTSTRAP_KEY"] = self.key
        env["FREEHOLD_MODEL_KEY"] = "upstream-key"
        if self.database:
            env["FREEHOLD_DATABASE_URL"] = self.database
        env |= self.env
        command = [
            *self.before,
            binary(),
            "serve",
            "--config",
            str(self._config),
            "--listen",
            self._listen,
            "--data-dir",
            str(self.folder / "data"),
            "--log-format",
            "json",
        ]
        if self.model_url:
            command += ["--model-url", self.model_url]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._found = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._found.wait(PATIENCE_S) or not self.url:
            self.process.kill()
            raise RuntimeError(f"the server did not say where it listens:\n{self.log.read_text()[-4000:]}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.log.open("ab") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                found = LISTENING.search(line.decode(errors="replace"))
                if found and not self.url:
                    self.url = found.group(1)
                    self._found.set()
        self._found.set()

    def stay(self) -> None:
        """From the next start on it listens where it does now."""
        self._listen = self.url.removeprefix("http://")

    def stop(self) -> int:
        """Asks it to end and waits; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop within {STOPPING_S} s:\n{self.log.read_text()[-2000:]}") from None
        self._reader.join(PATIENCE_S)
        return status

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def complaints(self) -> list[str]:
        """Log lines that no test should cause: panics and errors of the server's own."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if "panicked" in line:
                found.append(line)
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") == "ERROR":
                found.append(line)
        return found
