"""Server on one host, workers on another, and one port between them.

The tests' own clients are the operator's: they run on the server's host.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anthropic  # noqa: E402
import httpx2  # noqa: E402
from anthropic import Anthropic  # noqa: E402

from harness.chat import Chat  # noqa: E402
from harness.netns import PORT, SERVER_ADDRESS, Hosts  # noqa: E402
from harness.server import Server, binary  # noqa: E402
from harness.watch import wait_until  # noqa: E402

HERE = Path(__file__).resolve().parent
NODE_WORKER = HERE.parents[1] / "typescript/dist/workers/official.js"
# What ours says when it begins to poll.
READY = " polling http"
# What a worker does on SIGTERM must be over by then.
STOPPING_S = 60

CONFIG = """
[rehearsal]
delay_ms = 0

[work]
lease_seconds = 6
"""


def pytest_report_header() -> str:
    return f"anthropic {anthropic.__version__}, two network namespaces"


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    hosts.server.enter()
    yield hosts
    hosts.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, hosts: Hosts) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), None, CONFIG, listen=f"{SERVER_ADDRESS}:{PORT}")
    yield server
    assert server.stop() == 0, server.log.read_text()[-4000:]
    assert not server.complaints(), server.complaints()


@pytest.fixture(scope="session")
def client(server: Server) -> Anthropic:
    return Anthropic(api_key=server.key, base_url=server.url, max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def admin(server: Server) -> httpx2.Client:
    """Freehold's own endpoints."""
    return httpx2.Client(base_url=server.url, headers={"x-api-key": server.key}, timeout=60)


class Queue:
    """A self-hosted environment and a key of it."""

    def __init__(self, client: Anthropic, admin: httpx2.Client, name: str) -> None:
        self._client = client
        self.environment = client.beta.environments.create(name=name, config={"type": "self_hosted"})
        made = admin.post(f"/v1/freehold/environments/{self.environment.id}/keys", json={"name": "test"})
        made.raise_for_status()
        self.key: str = made.json()["key"]

    def stats(self) -> Any:
        return self._client.beta.environments.work.stats(self.environment.id)

    def items(self) -> list[Any]:
        """Every item there ever was, as its workers see them."""
        work = Anthropic(auth_token=self.key, base_url=str(self._client.base_url)).beta.environments.work
        return list(work.list(self.environment.id, limit=100))

    def is_empty(self) -> bool:
        """Nothing waits, is claimed or runs."""
        stats = self.stats()
        return stats.depth == 0 and stats.pending == 0 and all(item.state == "stopped" for item in self.items())


@pytest.fixture
def queue(client: Anthropic, admin: httpx2.Client, request: pytest.FixtureRequest) -> Queue:
    return Queue(client, admin, request.node.name)


class Worker:
    """One worker process on the worker's host, with nothing but the environment's key."""

    def __init__(self, hosts: Hosts, queue: Queue, kind: str, folder: Path, *extra: str, url: str) -> None:
        self.kind = kind
        self.folder = folder
        self.workdir = folder / "workspace"
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.log = folder / "worker.log"
        self._hosts, self._queue, self._url = hosts, queue, url
        # The lease is short, so that others take over soon.
        self._extra = extra if "--lease" in extra else ("--lease", "5s", *extra)
        self.start()

    def start(self) -> None:
        env = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "TMPDIR", "USER", "LANG"}}
        env["ANTHROPIC_BASE_URL"] = self._url
        env["ANTHROPIC_ENVIRONMENT_ID"] = self._queue.environment.id
        env["ANTHROPIC_ENVIRONMENT_KEY"] = self._queue.key
        env["WORKDIR"] = str(self.workdir)
        argv = {
            "freehold": [binary(), "worker", "poll", "--workdir", str(self.folder / "state"), "--max-idle", "1s", *self._extra],
            "python": own_mnt(sys.executable, str(HERE / "workers/official.py")),
            "typescript": own_mnt(shutil.which("node") or "node", str(NODE_WORKER)),
        }[self.kind]
        before = self.said().count(READY) if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._hosts.worker.command(*argv), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if self.kind == "freehold":
            wait_until("a worker that polls", lambda: self.said().count(READY) > before or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()[-4000:]

    def kill(self) -> None:
        """As if its machine had lost power."""
        self.process.kill()
        self.process.wait(STOPPING_S)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOPPING_S)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def own_mnt(*argv: str) -> list[str]:
    """Runs `argv` with a `/mnt` of its own: memory stores are mounted at absolute paths."""
    script = 'mount -t tmpfs none /mnt && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *argv]


@pytest.fixture
def worker(hosts: Hosts, queue: Queue, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers; those still running at the end are stopped."""
    running: list[Worker] = []

    def make(kind: str, *extra: str, url: str = f"http://{SERVER_ADDRESS}:{PORT}") -> Worker:
        one = Worker(hosts, queue, kind, tmp_path / f"worker-{len(running)}", *extra, url=url)
        running.append(one)
        return one

    yield make
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
    for one in running:
        one.process.wait(STOPPING_S)


@pytest.fixture
def chat(client: Anthropic, queue: Queue) -> Iterator[Callable[..., Chat]]:
    """Makes sessions on the queue, and checks the history of each when the test is over."""
    made: list[Chat] = []

    def make(agent: dict[str, Any], **fields: Any) -> Chat:
        agent_id = client.beta.agents.create(**({"name": "tester", "model": "rehearsal"} | agent)).id
        session = client.beta.sessions.create(agent=agent_id, environment_id=queue.environment.id, **fields)
        made.append(Chat(client, session))
        return made[-1]

    yield make
    for one in made:
        one.check()
