"""Everything that runs, each on a host of its own: a database, servers, workers, gateways before an MCP
server, a model, and the clients' host, on which this process is."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx2

from harness.chat import user
from harness.postgres import Cluster
from harness.server import Server, binary
from harness.watch import Gone, wait_until

from . import ROOT
from .clients import TROUBLE, Notes, Talk, connect
from .network import Network

KEY = "sk-fh-fault-harness-bootstrap-key"
API, EDGE, MODEL, MCP = 8787, 8788, 8080, 3100
FAST = ROOT / "tests/sdk/python/servers/fast.py"
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
# Room for a server's data, and for the database's, which faults can fill.
DISK_MIB, DATABASE_MIB = 64, 1536
TOOLSET = {"type": "agent_toolset_20260401"}
MARK = {
    "type": "custom",
    "name": "mark",
    "description": "Leaves a mark.",
    "input_schema": {"type": "object", "properties": {"nonce": {"type": "string"}}, "required": ["nonce"]},
}
ALLOWED = {"permission_policy": {"type": "always_allow"}}

CONFIG = """
[retry]
base_ms = 50
max_ms = 2000
attempts = 20

[sandbox]
provider = "process"
min_free_mib = 0

[work]
lease_seconds = 6

[tunnels]
domain = "tunnel.test"
listen = "0.0.0.0:{edge}"

[secrets]
key_file = "{keys}"
"""


def clock_env(folder: Path) -> dict[str, str]:
    """Lets a fault step the process's wall clock: what `folder/clock` says is added to it."""
    if FAKETIME is None:
        raise RuntimeError("libfaketime is missing: `cargo xtask sim` installs it")
    (folder / "clock").write_text("+0\n")
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


class Proc:
    """A process that is not a server: started, ended, started again. Its log is `log`."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str]) -> None:
        self._command, self.log = command, log
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "TMPDIR", "USER", "LANG"}}
        self.env = kept | env
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


class World:
    """`postgres`: so many servers on one database; otherwise one server with SQLite."""

    def __init__(
        self, folder: Path, seed: int, postgres: bool, *, servers: int = 2, workers: int = 2, gateways: str = "ab", clock: bool = False
    ) -> None:
        """`gateways` names the servers whose edges have one; with none there is no tunnel."""
        self.folder, self.seed, self.postgres, self.clock = folder, seed, postgres, clock
        self.names = [chr(ord("a") + n) for n in range(servers if postgres else 1)]
        worker_names = [f"worker{n}" for n in range(1, workers + 1)]
        self.network = Network([*self.names, "database", "model", *worker_names, "private", "clients"])
        self.effects = folder / "effects"
        self.effects.touch()
        self.notes = Notes()
        self.talks: list[Talk] = []
        self.cluster: Cluster | None = None
        self.servers: dict[str, Server] = {}
        self.workers: dict[str, Proc] = {}
        self.gateways: dict[str, Proc] = {}
        self.others: list[Proc] = []
        self.mounts: list[Path] = []
        try:
            self._start(gateways, worker_names)
        except BaseException:
            self.close()
            raise

    def _start(self, gateways: str, worker_names: list[str]) -> None:
        self.network.enter("clients")
        model = self.network.address("model"), str(MODEL)
        self._run("model", [sys.executable, "-m", "sim.model", *model])
        database = None
        if self.postgres:
            # The database is another user's.
            self.folder.chmod(0o711)
            disk = self._disk(self.folder / "database", DATABASE_MIB)
            self.cluster = Cluster(self.network.hosts["database"], self.network.address("database"), disk)
            if self.clock:
                self._restart_database_with_clock()
            database = self.cluster.database()
        (self.folder / "master.key").write_text(secrets.token_hex(32))
        (self.folder / "blobs").mkdir()
        for name in self.names:
            self._server(name, database)
        self.urls = [self.servers[name].url for name in self.names]
        self.admin = httpx2.Client(base_url=self.urls[0], headers={"x-api-key": KEY}, timeout=30, trust_env=False)
        self._accounts()
        for name in worker_names:
            self._worker(name)
        if gateways:
            self._tunnel(gateways)

    def _restart_database_with_clock(self) -> None:
        assert self.cluster is not None
        part = self.cluster.folder
        self.cluster.env = clock_env(part)
        self.cluster.stop("fast")
        self.cluster.start()

    def _run(self, host: str, command: list[str], env: dict[str, str] | None = None, name: str = "") -> Proc:
        full = self.network.hosts[host].command(*command)
        proc = Proc(full, self.folder / f"{name or host}.log", env or {})
        self.others.append(proc)
        return proc

    def _disk(self, path: Path, mib: int) -> Path:
        """A disk of its own, so that it can be full."""
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "none", str(path)], check=True)
        self.mounts.append(path)
        return path

    def _server(self, name: str, database: str | None) -> None:
        part = self.folder / name
        self._disk(part / "data", DISK_MIB)
        if database:
            (part / "data/blobs").symlink_to(self.folder / "blobs")
        config = CONFIG.format(edge=EDGE, keys=self.folder / "master.key")
        host = self.network.hosts[name]
        self.servers[name] = Server(
            part,
            f"http://{self.network.address('model')}:{MODEL}",
            config,
            key=KEY,
            listen=f"{self.network.address(name)}:{API}",
            database=database,
            before=host.command(),
            env=clock_env(part) if self.clock else {},
        )

    def _accounts(self) -> None:
        """Two workspaces, each with a key, an environment in the cloud and one of its own."""
        self.keys: dict[str, str] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.agents: dict[str, str] = {}
        for name in ("red", "blue"):
            made = self._admin("/v1/freehold/workspaces", {"name": name})
            key = self._admin("/v1/freehold/keys", {"name": name, "workspace_id": made["id"], "admin": True})
            self.keys[name] = key["key"]
            client = connect(self.keys[name], self.urls)
            cloud = client.beta.environments.create(name="cloud", config={"type": "cloud"}).id
            hosted = client.beta.environments.create(name="hosted", config={"type": "self_hosted"}).id
            self.environments[name] = {"cloud": cloud, "hosted": hosted}
            agent = client.beta.agents.create(name="sim", model="plan", tools=[TOOLSET, MARK])
            self.agents[name] = agent.id
        path = f"/v1/freehold/environments/{self.environments['red']['hosted']}/keys"
        self.environment_key = self._admin(path, {"name": "workers"}, {"x-api-key": self.keys["red"]})["key"]

    def _admin(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        answer = self.admin.post(path, json=body, headers=headers or {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _worker(self, name: str) -> None:
        """The first worker knows replica a, the second b."""
        self.start_worker(name, name, self.names[(int(name[-1]) - 1) % len(self.names)])

    def start_worker(self, name: str, host: str, server: str, *more: str, env: dict[str, str] | None = None) -> None:
        """A worker on that host, which knows that server."""
        env = (env or {}) | {
            "ANTHROPIC_BASE_URL": self.servers[server].url,
            "ANTHROPIC_ENVIRONMENT_ID": self.environments["red"]["hosted"],
            "ANTHROPIC_ENVIRONMENT_KEY": self.environment_key,
        }
        command = [binary(), "worker", "poll", "--workdir", str(self.folder / f"{name}-state")]
        command += ["--max-idle", "2s", "--lease", "6s", "--sandbox", "process", *more]
        self.workers[name] = self._run(host, command, env, name)

    def _tunnel(self, gateways: str) -> None:
        """A gateway for each of these servers' edges, before one MCP server."""
        made = self.folder / "gateway"
        env = {**os.environ, "FREEHOLD_URL": self.urls[0], "FREEHOLD_API_KEY": self.keys["red"]}
        command = [binary(), "gateway", "setup", "init", "--output", f"dir:{made}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        domain = (made / "tunnel-domain").read_text().strip()
        self._run("private", [sys.executable, str(FAST), json.dumps({"port": MCP, "tokens": None, "variant": ""})], name="mcp")
        for name, server in self.servers.items():
            if name not in gateways:
                continue
            fingerprint = re.search(r"[0-9a-f]{64}", server.log.read_text())
            assert fingerprint, server.log.read_text()[-2000:]
            config = self.folder / f"gateway-{name}.yaml"
            config.write_text(
                f"tunnel_domain: {domain}\n"
                f"tls: {{cert_file: {made}/tls.crt, key_file: {made}/tls.key}}\n"
                f"routes: {{demo: 'http://127.0.0.1:{MCP}'}}\n"
                "upstream: {allowed_ips: [127.0.0.1]}\n"
                f"edge: {{address: '{self.network.address(name)}:{EDGE}', fingerprint: {fingerprint.group()}, "
                f"token_file: {made}/tunnel-token}}\n"
            )
            self.gateways[f"gateway-{name}"] = self._run(
                "private", [binary(), "gateway", "run", "--config", str(config)], name=f"gateway-{name}"
            )
        wait_until("the MCP server", self.mcp_notes_or_none)
        client = connect(self.keys["red"], self.urls)
        toolset = {"type": "mcp_toolset", "mcp_server_name": "demo", "default_config": ALLOWED}
        url = f"https://demo.{domain}/mcp"
        servers = [{"type": "url", "name": "demo", "url": url}]
        self.agents["tunnel"] = client.beta.agents.create(
            name="tunnel", model="plan", mcp_servers=servers, tools=[TOOLSET, toolset]
        ).id

    def mcp_notes_or_none(self) -> list[str] | None:
        ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{MCP}/seen', timeout=5).read().decode())"
        command = self.network.hosts["private"].command(sys.executable, "-c", ask)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return [*json.loads(done.stdout)["notes"], ""] if done.returncode == 0 else None

    def talk(self, kind: str, workspace: str = "red", talk: type[Talk] = Talk, urls: list[str] | None = None) -> Talk:
        """A session of a kind: `cloud`, `hosted` (its calls run on a worker), or `tunnel`; its client sends to
        all servers, or to these."""
        urls = urls or self.urls
        client = connect(self.keys[workspace], urls)
        agent = self.agents["tunnel" if kind == "tunnel" else workspace]
        environment = self.environments[workspace]["hosted" if kind == "hosted" else "cloud"]
        session = client.beta.sessions.create(agent=agent, environment_id=environment).id
        kinds = {"cloud": ["bash", "mark"], "hosted": ["bash", "bash", "mark"], "tunnel": ["note", "note", "bash"]}[kind]
        self.notes.sessions[session] = {"workspace": workspace, "kind": kind}
        seed = f"{self.seed} {len(self.talks)}"
        made = talk(self.notes, workspace, self.keys[workspace], urls, session, str(self.effects), kinds, seed)
        self.talks.append(made)
        return made

    def peek(self, chance: random.Random) -> None:
        """Each workspace's key is tried on a session of the other's; and nothing of the other's is listed."""
        for workspace, key in self.keys.items():
            client = connect(key, self.urls, max_retries=0)
            others = [s for s, about in self.notes.sessions.items() if about["workspace"] != workspace]
            if not others:
                continue
            target = chance.choice(others)
            for what, ask in {
                "retrieve": lambda: client.beta.sessions.retrieve(target),
                "events": lambda: list(client.beta.sessions.events.list(target)),
                "stream": lambda: client.beta.sessions.events.stream(target).close(),
                "send": lambda: client.beta.sessions.events.send(target, events=[user('{"plan": [], "mark": "not yours"}')]),
            }.items():
                self._peeked(workspace, target, what, ask)
            with suppress(*TROUBLE):
                listed = {s.id for s in client.beta.sessions.list(limit=100)}
                self.notes.peeks.append({"workspace": workspace, "what": "list", "listed": sorted(listed)})

    def _peeked(self, workspace: str, target: str, what: str, ask: Any) -> None:
        try:
            ask()
            visible = True
        except anthropic.NotFoundError:
            visible = False
        except TROUBLE:
            return
        self.notes.peeks.append({"workspace": workspace, "what": what, "session": target, "visible": visible})

    def start_server(self, name: str) -> None:
        """Starts it again, as often as it takes: its database may be away, too."""
        server = self.servers[name]

        def started() -> bool:
            try:
                server.start()
                return True
            except RuntimeError:
                server.process.wait(30)
                return False

        wait_until(f"server {name}", started, 180)

    def rows(self) -> dict[str, dict[str, int]]:
        """For each session, what the database itself has: events, their first and last number, the head, and
        how many events were written under an older lease than one before them."""
        query = """
            SELECT s.id, count(e.seq), coalesce(min(e.seq), 1), coalesce(max(e.seq), 0), s.head_seq,
              coalesce(sum(CASE WHEN e.epoch > 0 AND e.epoch < e.newest THEN 1 ELSE 0 END), 0)
            FROM session s LEFT JOIN (
              SELECT session_id, seq, epoch, max(epoch) OVER (PARTITION BY session_id ORDER BY seq) AS newest FROM event
            ) e ON e.session_id = s.id
            GROUP BY s.id, s.head_seq
        """
        if self.cluster:
            found: Any = self.cluster.query(query, "f1")
        else:
            file = self.folder / "a/data/freehold.db"
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                found = db.execute(query).fetchall()
        names = ("events", "first", "last", "head", "stale")
        return {session: dict(zip(names, map(int, numbers), strict=True)) for session, *numbers in found}

    def complaints(self) -> tuple[list[str], dict[str, int]]:
        """Panics, and how often each error was logged."""
        panics: list[str] = []
        errors: dict[str, int] = {}
        for server in self.servers.values():
            for line in server.complaints():
                if "panicked" in line:
                    panics.append(line)
                else:
                    entry = json.loads(line)
                    said = str(entry.get("fields", entry).get("message", line))[:100]
                    errors[said] = errors.get(said, 0) + 1
        for proc in self.others:
            panics += [line for line in proc.log.read_text(errors="replace").splitlines() if "panicked at" in line]
        return panics, errors

    def close(self) -> None:
        for talk in self.talks:
            talk.finished.set()
            talk.over.set()
        for talk in self.talks:
            talk.close()
        for proc in self.others:
            with suppress(ProcessLookupError):
                proc.process.send_signal(signal.SIGCONT)
            proc.kill()
        for server in self.servers.values():
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
                server.kill()
        if self.cluster:
            self.cluster.remove()
        for mount in self.mounts:
            subprocess.run(["umount", "--lazy", str(mount)], check=False)
        with suppress(RuntimeError, Gone):
            self.network.close()
