"""What one replica holds in its memory is there for those who ask another."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

from harness.chat import Chat, of, texts
from harness.replicas import free_port
from harness.server import Server, binary
from harness.watch import wait_until

FAST = Path(__file__).resolve().parent.parent / "servers" / "fast.py"
WORDS = " ".join(f"word{n}" for n in range(200))


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def previews(listening: Chat, asked: Chat) -> int:
    """Fragments of a turn's answer that were shown where it is listened."""
    with listening.watch("agent.message") as watch:
        asked.send(f"say: {WORDS}")
        watch.idle()
    snapshot, shown = None, 0
    for event in watch:
        before, snapshot = snapshot, accumulate_managed_agents_event(snapshot, event)
        shown += event.type == "event_delta"
        if event.type == "agent.message" and before:
            assert before.id == event.id and texts(event).startswith(texts(before))
    assert texts(of(watch.seen, "agent.message")[-1]).endswith(WORDS)
    return shown


def test_previews_reach_listeners_of_another_replica(pair):
    wait_until("the replicas to meet", lambda: pair.a.has_met() and pair.b.has_met())
    there = pair.session(pair.a)
    there.turn("bash: true")  # Its sandbox is at `a` now, and so it is driven there.
    listening = pair.at(pair.b, there)
    for asked in (there, listening):
        wait_until("previews", lambda asked=asked: previews(listening, asked) > 10)
    assert pair.row(there)["generation"] == "1", "it moved, and so nothing was forwarded"
    there.check()


def test_a_replica_that_comes_back_is_met_again(pair):
    wait_until("the replicas to meet", lambda: pair.a.has_met() and pair.b.has_met())
    pair.b.kill()
    pair.b.start()
    there = pair.session(pair.a)
    there.turn("bash: true")
    listening = pair.at(pair.b, there)
    wait_until("previews", lambda: previews(listening, there) > 10)


class Private:
    """An MCP server, and a gateway that is connected to replica `a` alone."""

    def __init__(self, pair: Any, folder: Path) -> None:
        self.pair, self.made, port = pair, folder / "gateway", free_port()
        env = {**os.environ, "FREEHOLD_URL": pair.a.url, "FREEHOLD_API_KEY": pair.a.key}
        command = [binary(), "gateway", "setup", "init", "--output", f"dir:{self.made}"]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
        self.domain = (self.made / "tunnel-domain").read_text().strip()
        self.id = (self.made / "tunnel-id").read_text().strip()
        said = [json.loads(line) for line in pair.a.log.read_text().splitlines() if "gateways connect to" in line][-1]
        self.config = folder / "gateway.yaml"
        self.config.write_text(
            f"tunnel_domain: {self.domain}\n"
            f"tls: {{cert_file: {self.made}/tls.crt, key_file: {self.made}/tls.key}}\n"
            f"routes: {{demo: 'http://127.0.0.1:{port}'}}\n"
            "upstream: {allowed_ips: [127.0.0.1]}\n"
            f"edge: {{address: '{said['address']}', fingerprint: {said['sha256']}, token_file: {self.made}/tunnel-token}}\n"
        )
        options = json.dumps({"port": port, "tokens": None, "variant": ""})
        self.log = folder / "private.log"
        self.processes = [
            self._start(sys.executable, str(FAST), options),
            self._start(binary(), "gateway", "run", "--config", str(self.config)),
        ]
        wait_until("the gateway", lambda: self.connections(pair.a))
        wait_until("the MCP server", lambda: listens(port))

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def connections(self, replica: Server) -> list[Any]:
        found = self.pair.client(replica).get(f"/v1/tunnels/{self.id}/connections", cast_to=object)
        return found["data"]

    def session(self, replica: Server) -> Chat:
        """Driven by this replica, which made it."""
        client = self.pair.client(replica)
        toolset = {"type": "mcp_toolset", "mcp_server_name": "demo", "default_config": {"permission_policy": {"type": "always_allow"}}}
        server = {"type": "url", "name": "demo", "url": f"https://demo.{self.domain}/mcp"}
        agent = client.beta.agents.create(name="a", model="rehearsal", mcp_servers=[server], tools=[toolset])
        environment = client.beta.environments.create(name=f"env {len(client.beta.environments.list().data)}")
        return Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=environment.id))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def private(pair: Any, tmp_path: Path) -> Iterator[Private]:
    private = Private(pair, tmp_path)
    yield private
    private.close()


def called(session: Chat) -> str:
    """What the tool said, or why it could not be called."""
    seen = session.turn('tool: mcp__demo__note {"text": "over there"}').seen
    errors = [e.error.message for e in of(seen, "session.error")]
    return " ".join([texts(r) for r in of(seen, "agent.mcp_tool_result")] + errors)


def until(what: str, session: Callable[[], Chat], wanted: str) -> None:
    """Another replica's changes are noticed soon, not at once."""
    said = ""

    def there() -> bool:
        nonlocal said
        said = called(session())
        return bool(re.search(wanted, said))

    try:
        wait_until(what, there)
    except Exception as error:
        raise AssertionError(f"{what}: {said}") from error


def test_a_tunnel_is_reached_through_the_replica_that_holds_the_gateway(pair, private):
    wait_until("the replicas to meet", pair.b.has_met)
    assert private.connections(pair.a) and not private.connections(pair.b)
    here, there = private.session(pair.a), private.session(pair.b)
    assert called(here) == called(there) == "noted: over there"
    # What is changed at one replica ends what is open at the other.
    client = pair.client(pair.b)
    (certificate,) = client.get(f"/v1/tunnels/{private.id}/certificates?beta=true", cast_to=object)["data"]
    client.post(f"/v1/tunnels/{private.id}/certificates/{certificate['id']}/archive?beta=true", cast_to=object)
    for session in (here, there):
        until("the certificate to be gone", lambda s=session: s, "no active certificate")


def test_a_tunnel_archived_elsewhere_loses_its_gateway(pair, private):
    pair.client(pair.b).post(f"/v1/tunnels/{private.id}/archive?beta=true", cast_to=object)
    wait_until("the gateway to go", lambda: not private.connections(pair.a))
