"""Two replicas on one database, each reached at an address of its own, and stopped one by one.

Runs with `FREEHOLD_TEST_STORE=postgres FREEHOLD_TEST_REPLICAS=2`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anthropic  # noqa: E402
from anthropic import Anthropic  # noqa: E402

from harness import postgres, replicas  # noqa: E402
from harness.chat import Chat  # noqa: E402
from harness.server import Server  # noqa: E402
from harness.watch import wait_until  # noqa: E402

TOOLSET = {"type": "agent_toolset_20260401"}

CONFIG = """
[rehearsal]
delay_ms = 0

[tunnels]
domain = "tunnel.test"
listen = "127.0.0.1:0"
"""


def pytest_configure() -> None:
    if not postgres.wanted() or replicas.wanted() != 2:
        raise pytest.UsageError("this suite needs FREEHOLD_TEST_STORE=postgres and FREEHOLD_TEST_REPLICAS=2")


def pytest_report_header() -> str:
    return f"anthropic {anthropic.__version__}, two replicas"


class Pair:
    """Replicas `a` and `b`; a test says which it asks."""

    def __init__(self, folder: Path) -> None:
        self._both: Any = Server(folder, None, CONFIG)
        self.a, self.b = self._both.replicas
        # The proxy knows them by their addresses.
        self.a.stay()
        self.b.stay()
        self.proxy = self._both.url
        self.blobs = folder / "blobs"

    def client(self, replica: Server) -> Anthropic:
        """No retries: whoever is asked has to answer."""
        return Anthropic(api_key=replica.key, base_url=replica.url, max_retries=0, timeout=60)

    def session(self, replica: Server, **fields: Any) -> Chat:
        """Made by this replica, so that its sandbox is there."""
        client = self.client(replica)
        agent = client.beta.agents.create(name="mover", model="rehearsal", tools=[TOOLSET])
        environment = client.beta.environments.create(name=f"env {len(client.beta.environments.list().data)}")
        return Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=environment.id, **fields))

    def at(self, replica: Server, session: Chat) -> Chat:
        """The same session, asked of this replica."""
        client = self.client(replica)
        return Chat(client, client.beta.sessions.retrieve(session.id))

    def row(self, session: Chat) -> dict[str, str]:
        """What the database notes of its files."""
        columns = ["generation", "changes", "saved", "blob"]
        query = f"SELECT {', '.join(columns)} FROM session_sandbox WHERE session_id = '{session.id}'"
        psql = [postgres.program("psql"), self.a.database, "-Atc", query]
        found = subprocess.run(psql, check=True, capture_output=True, text=True).stdout.strip()
        return dict(zip(columns, found.split("|"))) if found else {}

    def wait_saved(self, session: Chat) -> str:
        """Waits until all is in a snapshot; its key."""

        def saved() -> str:
            row = self.row(session)
            return row["blob"] if row and row["saved"] == row["changes"] != "0" else ""

        return str(wait_until("a snapshot", saved))

    def blob(self, key: str) -> list[Path]:
        """The files of a blob."""
        return [path for path in self.blobs.rglob("*") if path.is_file() and key in str(path).replace("/", "")]

    def folder(self, replica: Server, session: Chat) -> list[Path]:
        """Where this replica keeps the session's sandbox, if it does."""
        return [path for path in (replica.folder / "data").rglob(session.id) if path.is_dir()]

    def close(self) -> None:
        for replica in (self.a, self.b):
            if replica.process.poll() is None:
                replica.kill()
        self._both._unroute()
        complaints = self._both.complaints()
        assert not complaints, complaints


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()
