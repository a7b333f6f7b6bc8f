"""An MCP server in a private network, reached through a tunnel.

Three hosts: the server with its edge, the private network with gateways and a real MCP server, and a
stranger. Between them one TCP port of the server: the edge's. The operator's clients are on the
server's host.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from anthropic import Anthropic

from harness.chat import Chat, of, texts
from harness.netns import SERVER_ADDRESS, Hosts, run
from harness.server import Server, binary
from harness.watch import wait_until

EDGE_PORT = 8788
UPSTREAM_PORT = 3100
FAST = Path(__file__).resolve().parent.parent / "servers" / "fast.py"
CONFIG = f"""
[rehearsal]
delay_ms = 0

[tunnels]
domain = "tunnel.test"
listen = "0.0.0.0:{EDGE_PORT}"
"""


class Load:
    """Calls of the server's tool over the Messages API, each with a text of its own, so many in a second.

    The client is one that tries again: while the server is away it has nobody to talk to, and an attempt
    that found nobody is not a call. Every call that was begun has to get its own answer.
    """

    def __init__(self, client: Anthropic, url: str, per_second: int) -> None:
        self._client = client.with_options(max_retries=20)
        self._url = url
        self._pause = 1 / per_second
        self._tickets = itertools.count()
        self._began = time.monotonic()
        self._over = threading.Event()
        self.begun: list[str] = []
        self.done: list[str] = []
        self.failures: list[object] = []
        # More than can be under way at once, so that slow ones hold nobody up.
        self._threads = [threading.Thread(target=self._work) for _ in range(32)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while True:
            ticket = next(self._tickets)
            wait = self._began + ticket * self._pause - time.monotonic()
            if self._over.wait(max(wait, 0)):
                return
            text = f"under-load-{ticket}"
            self.begun.append(text)
            try:
                self._call(text)
            except Exception as error:  # noqa: BLE001 - handed to the test
                self.failures.append((text, repr(error)))
            self.done.append(text)

    def _call(self, text: str) -> None:
        message = self._client.beta.messages.create(
            model="rehearsal",
            max_tokens=500,
            betas=["mcp-client-2025-11-20"],
            messages=[{"role": "user", "content": f'tool: demo_note {{"text": "{text}"}}'}],
            mcp_servers=[{"type": "url", "name": "demo", "url": self._url}],
            tools=[{"type": "mcp_toolset", "mcp_server_name": "demo"}],
        )
        results = [b for b in message.content if b.type == "mcp_tool_result"]
        told = [(r.is_error, r.content[0].text) for r in results]
        if told != [(False, f"noted: {text}")]:
            self.failures.append((text, told))

    def more(self, count: int) -> None:
        """So many calls that begin from now on have ended."""
        begun = len(self.begun)
        wait_until("more calls", lambda: len(set(self.done) & set(self.begun[begun:])) >= count)

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Capture:
    """Everything that passes an interface of this host, while it is open."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((interface, 0))
        self._socket.settimeout(0.2)
        self.bytes = bytearray()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                self.bytes += self._socket.recv(65536)
            except TimeoutError:
                pass

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


class Private:
    """The private network: an MCP server, and gateways that are set up by the product's own command."""

    def __init__(self, hosts: Hosts, server: Server, folder: Path) -> None:
        self.hosts, self.server, self.folder = hosts, server, folder
        self.made = folder / "gateway"
        self.setup()
        fingerprint = re.search(r"[0-9a-f]{64}", server.log.read_text())
        assert fingerprint, server.log.read_text()[-3000:]
        self.config = folder / "gateway.yaml"
        self.config.write_text(
            f"tunnel_domain: {self.domain}\n"
            f"tls: {{cert_file: {self.made}/tls.crt, key_file: {self.made}/tls.key}}\n"
            f"routes: {{demo: 'http://127.0.0.1:{UPSTREAM_PORT}'}}\n"
            "upstream: {allowed_ips: [127.0.0.1]}\n"
            f"edge: {{address: '{SERVER_ADDRESS}:{EDGE_PORT}', fingerprint: {fingerprint.group()}, token_file: {self.made}/tunnel-token}}\n"
        )
        options = json.dumps({"port": UPSTREAM_PORT, "tokens": None, "variant": ""})
        log = (folder / "upstream.log").open("wb")
        self.upstream = subprocess.Popen(
            hosts.worker.command(sys.executable, str(FAST), options), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.gateways: list[subprocess.Popen[bytes]] = []
        knock = f"import socket; socket.create_connection(('127.0.0.1', {UPSTREAM_PORT}))"
        command = hosts.worker.command(sys.executable, "-c", knock)
        wait_until("the MCP server", lambda: subprocess.run(command, capture_output=True).returncode == 0)

    def setup(self, *more: str) -> None:
        """On the operator's side: only the files go into the private network."""
        env = {**os.environ, "FREEHOLD_URL": self.server.url, "FREEHOLD_API_KEY": self.server.key}
        command = [binary(), "gateway", "setup", "init", "--output", f"dir:{self.made}", *more]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self.domain = (self.made / "tunnel-domain").read_text().strip()
        self.id = (self.made / "tunnel-id").read_text().strip()

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.folder / f"gateway-{len(self.gateways)}.log").open("wb")
        command = self.hosts.worker.command(binary(), "gateway", "run", "--config", str(self.config))
        self.gateways.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return self.gateways[-1]

    def stop(self, gateway: subprocess.Popen[bytes]) -> None:
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0

    def notes(self) -> list[str]:
        """What the MCP server has noted, in its order."""
        ask = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{UPSTREAM_PORT}/seen').read().decode())"
        command = self.hosts.worker.command(sys.executable, "-c", ask)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)["notes"]

    def logs(self) -> str:
        return "".join(p.read_text(errors="replace") for p in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in (*self.gateways, self.upstream):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def hosts():
    hosts = Hosts(EDGE_PORT)
    hosts.server.enter()
    yield hosts
    hosts.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, hosts):
    server = Server(tmp_path_factory.mktemp("cloud"), None, CONFIG, listen="127.0.0.1:8787")
    yield server
    assert server.stop() == 0, server.log.read_text()[-4000:]
    assert not server.complaints(), server.complaints()


@pytest.fixture(scope="module")
def client(server):
    return Anthropic(api_key=server.key, base_url=server.url, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def private(tmp_path_factory, hosts, server):
    private = Private(hosts, server, tmp_path_factory.mktemp("private"))
    yield private
    private.close()


@pytest.fixture(scope="module")
def environment(client):
    return client.beta.environments.create(name="tunnel")


@pytest.fixture
def chat(client, environment, private):
    toolset = {"type": "mcp_toolset", "mcp_server_name": "demo", "default_config": {"permission_policy": {"type": "always_allow"}}}
    url = f"https://demo.{private.domain}/mcp"

    def make(url: str = url) -> Chat:
        agent = client.beta.agents.create(
            name="a", model="rehearsal", mcp_servers=[{"type": "url", "name": "demo", "url": url}], tools=[toolset]
        )
        return Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=environment.id))

    return make


def connected(client, private, count):
    """Waits for connections of gateways at the edge."""

    def enough():
        found = client.get(f"/v1/tunnels/{private.id}/connections", cast_to=object)
        return len(found["data"]) == count

    wait_until(f"{count} connections", enough)


def test_through_the_tunnel_and_nobody_reads_along(client, hosts, private, chat):
    gateway = private.start()
    connected(client, private, 2)
    capture = Capture("cable")
    marker, control = "planted-marker-" + os.urandom(8).hex(), "control-marker-" + os.urandom(8).hex()
    try:
        session = chat()
        seen = session.turn(f'tool: mcp__demo__note {{"text": "{marker}"}}').seen
        results = [texts(r) for r in of(seen, "agent.mcp_tool_result")]
        errors = [e.error.message for e in of(seen, "session.error")]
        assert (results, errors) == ([f"noted: {marker}"], []), private.logs()[-3000:]
        say = f"import socket; socket.create_connection(('{SERVER_ADDRESS}', {EDGE_PORT})).sendall(b'{control}')"
        subprocess.run(hosts.worker.command(sys.executable, "-c", say), check=True, timeout=30)
        wait_until("the control to be seen", lambda: control.encode() in capture.bytes)
    finally:
        capture.close()
    # The capture sees what is there to see, and of the call only that something passed.
    assert marker.encode() not in capture.bytes and b"noted:" not in capture.bytes
    assert len(capture.bytes) > 2_000
    # Both sides have a record of the call, under one name, without what was in it.
    audit = client.get("/v1/freehold/mcp/audit?tool=note", cast_to=object)["data"][0]
    name = audit["detail"]["request_id"]
    assert name in private.logs() and marker not in private.logs()
    # The gateway is gone: the typed error. It is back: no more.
    private.stop(gateway)
    connected(client, private, 0)
    (error,) = of(session.turn("say: hello").seen, "session.error")
    assert error.error.type == "mcp_connection_failed_error" and "gateway" in error.error.message
    private.start()
    connected(client, private, 2)
    seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
    assert not of(seen, "session.error") and texts(of(seen, "agent.mcp_tool_result")[0]) == "3"


def test_a_stranger_gets_nowhere(client, hosts, private, chat):
    stranger = hosts.stranger()
    try:
        knock = (
            "import socket, sys\n"
            "def reaches(address, port):\n"
            "    try: socket.create_connection((address, port), 3).close(); return True\n"
            "    except OSError: return False\n"
            f"assert reaches('198.51.100.1', {EDGE_PORT}), 'the edge is public'\n"
            "assert not reaches('198.51.100.1', 8787), 'the API'\n"
            f"assert not reaches('192.0.2.2', {UPSTREAM_PORT}), 'the private network'\n"
        )
        done = subprocess.run(stranger.command(sys.executable, "-c", knock), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        # With everything but the token.
        config = private.folder / "stranger.yaml"
        token = private.folder / "stranger-token"
        token.write_text("fht_" + "0" * 64)
        text = private.config.read_text().replace(SERVER_ADDRESS, "198.51.100.1")
        config.write_text(re.sub(r"token_file: [^}]+", f"token_file: {token}", text))
        command = [binary(), "gateway", "doctor", "--config", str(config), "--json"]
        told = subprocess.run(stranger.command(*command), capture_output=True, text=True, timeout=60)
        problems = {c["name"] for c in json.loads(told.stdout)["checks"] if c["level"] == "problem"}
        assert "token" in problems, told.stdout
    finally:
        stranger.remove()
    # A session of nobody's tunnel learns nothing but that there is none.
    (error,) = of(chat("https://demo.zzzzzzzz.tunnel.test/mcp").turn("say: x").seen, "session.error")
    assert "no tunnel for this host" in error.error.message


def test_a_server_that_restarts_finishes_its_calls(client, server, private, chat, tmp_path):
    if not any(gateway.poll() is None for gateway in private.gateways):
        private.start()
    wait_until("a gateway", lambda: client.get(f"/v1/tunnels/{private.id}/connections", cast_to=object)["data"])
    session, file = chat(), tmp_path / "waits"
    session.send(f'tool: mcp__demo__wait {{"path": "{file}"}}')
    wait_until("the call to begin", file.exists)
    stops = threading.Thread(target=server.stop)
    stops.start()
    wait_until("the server to stop", lambda: '"stopping"' in server.log.read_text())
    file.unlink()
    stops.join()
    assert server.process.returncode == 0, server.log.read_text()[-4000:]
    server.start()
    idle = lambda: session.get().status == "idle"
    wait_until("the turn to end", idle)
    results = [texts(r) for r in of(session.history(), "agent.mcp_tool_result")]
    assert (results, of(session.history(), "session.error")) == (["waited"], []), server.log.read_text()[-4000:]
    # And gateways come back by themselves.
    seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
    assert not of(seen, "session.error") and texts(of(seen, "agent.mcp_tool_result")[0]) == "3"


def test_rotation_under_load(client, private, chat):
    """Token, authority and certificate change, and gateways restart one by one, while sessions work and calls
    begin, fifty in a second as far as this machine keeps up: none fails, and the MCP server has each of those
    calls exactly once."""
    for gateway in private.gateways:
        if gateway.poll() is None:
            private.stop(gateway)
    gateways = [private.start(), private.start()]
    connected(client, private, 4)
    over, calls, failures, stage = threading.Event(), [0], [], ["at first"]

    def work(session):
        while not over.is_set():
            seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
            results = [texts(r) for r in of(seen, "agent.mcp_tool_result")]
            calls[0] += 1
            if results != ["3"] or of(seen, "session.error"):
                failures.append((stage[0], results, [e.error.message for e in of(seen, "session.error")]))

    workers = [threading.Thread(target=work, args=(chat(),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    before = len(private.notes())
    load = Load(client, f"https://demo.{private.domain}/mcp", per_second=50)

    def more():
        """Some calls have been made since."""
        before = calls[0]
        load.more(20)
        wait_until("more calls", lambda: calls[0] >= before + 3)

    try:
        more()
        stage[0] = "a new token"
        client.post(f"/v1/tunnels/{private.id}/rotate_token", cast_to=object, body={"reason": "test"})
        private.setup()  # Fetches the new token.
        more()
        for i in range(2):
            stage[0] = f"gateway {i} restarts"
            private.stop(gateways[i])
            more()
            gateways[i] = private.start()
            connected(client, private, 4)
            more()
        # A second authority, a certificate of it, and only then the first one goes.
        old = client.get(f"/v1/tunnels/{private.id}/certificates", cast_to=object)["data"]
        (private.made / "ca.crt").unlink()
        (private.made / "tls.crt").unlink()
        private.setup()
        for i in range(2):
            stage[0] = f"gateway {i} restarts with a new certificate"
            private.stop(gateways[i])
            more()
            gateways[i] = private.start()
            connected(client, private, 4)
        stage[0] = "the old authority goes"
        client.post(f"/v1/tunnels/{private.id}/certificates/{old[0]['id']}/archive", cast_to=object)
        more()
    finally:
        over.set()
        load.close()
        for worker in workers:
            worker.join()
    assert not failures, (failures[:3], private.logs()[-4000:])
    assert not load.failures, (load.failures[:3], private.logs()[-4000:])
    assert calls[0] >= 20
    assert sorted(private.notes()[before:]) == sorted(load.begun)


def test_a_gateway_that_is_suspended_is_missed_and_comes_back(client, private, chat):
    for gateway in private.gateways:
        if gateway.poll() is None:
            private.stop(gateway)
    gateway = private.start()
    connected(client, private, 2)
    session = chat()
    gateway.send_signal(signal.SIGSTOP)
    # Its connections stand, and nobody answers on them.
    connected(client, private, 0)
    (error,) = of(session.turn("say: hello").seen, "session.error")
    assert error.error.type == "mcp_connection_failed_error", error
    gateway.send_signal(signal.SIGCONT)
    connected(client, private, 2)
    seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
    assert not of(seen, "session.error") and texts(of(seen, "agent.mcp_tool_result")[0]) == "3"


def test_the_edge_restarts_under_load(client, server, private):
    """The server, and with it the edge, stops and starts again, twice, while calls begin through two
    gateways, fifty in a second as far as this machine keeps up. Whoever tries again where nobody listens is served: no call fails, and the MCP
    server has each of them exactly once."""
    for gateway in private.gateways:
        if gateway.poll() is None:
            private.stop(gateway)
    for _ in range(2):
        private.start()
    connected(client, private, 4)
    before = len(private.notes())
    load = Load(client, f"https://demo.{private.domain}/mcp", per_second=50)
    meanwhile = []
    try:
        load.more(100)
        for _ in range(2):
            begun = len(load.begun)
            assert server.stop() == 0, server.log.read_text()[-4000:]
            server.start()
            meanwhile.append(len(load.begun) - begun)
            load.more(100)
    finally:
        load.close()
    assert not load.failures, (load.failures[:3], server.log.read_text()[-4000:], private.logs()[-4000:])
    assert all(count > 0 for count in meanwhile), "nothing was begun while the server was away"
    assert sorted(private.notes()[before:]) == sorted(load.begun)
    connected(client, private, 4)


def test_a_cable_that_is_pulled_is_noticed_on_both_sides(client, hosts, private, chat, tmp_path):
    """Packets are lost both ways, and nobody says so."""
    for gateway in private.gateways:
        if gateway.poll() is None:
            private.stop(gateway)
    private.start()
    connected(client, private, 2)
    log = private.folder / f"gateway-{len(private.gateways) - 1}.log"
    session, file = chat(), tmp_path / "waits"
    session.send(f'tool: mcp__demo__wait {{"path": "{file}"}}')
    wait_until("the call to begin", file.exists)
    run("ip", "-n", hosts.worker.name, "link", "set", "cable", "down")
    try:
        connected(client, private, 0)
        wait_until("the gateway to notice", lambda: "not connected to the edge" in log.read_text())
        # The call that was under way has failed, and it is not known what became of it.
        wait_until("the turn to end", lambda: session.get().status == "idle")
        (result,) = of(session.history(), "agent.mcp_tool_result")
        assert result.is_error and "waited" not in texts(result), result
    finally:
        run("ip", "-n", hosts.worker.name, "link", "set", "cable", "up")
        file.unlink()
    connected(client, private, 2)
    seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
    assert not of(seen, "session.error") and texts(of(seen, "agent.mcp_tool_result")[0]) == "3"
