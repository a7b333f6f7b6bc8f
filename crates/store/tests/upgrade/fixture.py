"""Makes the data directory of an earlier commit (README.md): `fixture.py FREEHOLD DEST.tar.gz`.

FREEHOLD is the server of that commit, built with its crash points. Only the standard library is used and
only what the API could do from the first: every byte of the result was written by that server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

KEY = "sk-fh-upgrade-fixture"
PATIENCE_S = 60
TOOLSET = {"type": "agent_toolset_20260401"}
ASK = TOOLSET | {"default_config": {"permission_policy": {"type": "always_ask"}}}
CHOOSE = {
    "type": "custom",
    "name": "choose",
    "description": "Asks the user to choose.",
    "input_schema": {"type": "object", "properties": {"from": {"type": "string"}}},
}
OUTPUT = "write: /mnt/session/outputs/b.txt <<< output"
TURNS = [
    f"think: what to do\n{OUTPUT}\nread: /mnt/session/uploads/a.txt\nsay: done",
    "error: overloaded 1\nparallel:\nbash: echo 1\nbash: exit 3\nend:\nsay: {result}",
    "bash: echo three",
]


class Server:
    """One run of the old server. `crash` is a point at which it ends itself, and at which passage."""

    def __init__(self, program: Path, folder: Path, crash: str | None = None) -> None:
        config = folder / "freehold.toml"
        config.write_text("[rehearsal]\ndelay_ms = 0\n[retry]\nbase_ms = 1\nmax_ms = 10\n")
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "FREEHOLD_BOOTSTRAP_KEY": KEY}
        if crash:
            env["FREEHOLD_CRASH_POINT"] = crash
        command = [str(program), "serve", "--listen", "127.0.0.1:0", "--config", str(config)]
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], env=env, stderr=self.log.open("wb")
        )
        found = wait(lambda: re.search(r"listening on (http://[0-9.:]+)", self.log.read_text()))
        self.url = found.group(1)

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": kind, "anthropic-version": "2023-06-01"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error} {error.read().decode()}") from error

    def session(self, title: str, agent: str, environment: str, **fields: Any) -> str:
        body = {"title": title, "agent": agent, "environment_id": environment} | fields
        return self.ask("POST", "/v1/sessions", body)["id"]

    def say(self, session: str, *texts: str) -> None:
        events = [{"type": "user.message", "content": [{"type": "text", "text": text}]} for text in texts]
        self.ask("POST", f"/v1/sessions/{session}/events", {"events": events})

    def events(self, session: str) -> list[Any]:
        return self.ask("GET", f"/v1/sessions/{session}/events?limit=1000")["data"]

    def turn(self, session: str, text: str) -> None:
        before = len(self.events(session))
        self.say(session, text)
        wait(lambda: any(e["type"] == "session.status_idle" for e in self.events(session)[before:]))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait(condition: Any) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def at_rest(server: Server) -> tuple[str, str]:
    """What is in order when the server stops; an agent and an environment for what is not."""
    environment = server.ask("POST", "/v1/environments", {"name": "cloud", "config": {"type": "cloud"}})["id"]

    def agent(*tools: Any) -> str:
        body = {"name": "a", "model": "rehearsal", "system": "Be brief.", "tools": list(tools)}
        return server.ask("POST", "/v1/agents", body | {"metadata": {"made": "before"}})["id"]

    plain = agent(TOOLSET)
    server.ask("POST", "/v1/freehold/workspaces", {"name": "second"})
    file = upload(server)
    attached = [{"type": "file", "file_id": file, "mount_path": "/mnt/session/uploads/a.txt"}]
    finished = server.session("finished", plain, environment, resources=attached, metadata={"kept": "yes"})
    for text in TURNS:
        server.turn(finished, text)
    wait(lambda: server.ask("GET", f"/v1/files?scope_id={finished}")["data"])
    server.turn(server.session("blocked", agent(CHOOSE), environment), 'tool: choose {"from": "a, b"}\nsay: {result}')
    server.turn(server.session("asking", agent(ASK), environment), "bash: echo allowed")
    archived = server.session("archived", plain, environment)
    server.turn(archived, "bash: echo once")
    server.ask("POST", f"/v1/sessions/{archived}/archive")
    return plain, environment


def upload(server: Server) -> str:
    head = 'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain'
    body = f"--limit\r\n{head}\r\n\r\nattached\r\n--limit--\r\n".encode()
    return server.ask("POST", "/v1/files", body, "multipart/form-data; boundary=limit")["id"]


def self_hosted(server: Server, agent: str) -> None:
    """A session that waits for a worker, and its work item if there was a queue."""
    environment = server.ask("POST", "/v1/environments", {"name": "own", "config": {"type": "self_hosted"}})["id"]
    server.turn(server.session("hosted", agent, environment), "bash: echo hosted")


def interrupted(program: Path, folder: Path, agent: str, environment: str, passage: int) -> bool:
    """Two sessions at work when the server dies; whether it died when the second was not begun."""
    server = Server(program, folder, f"driver.append.before:{passage}")
    try:
        cut = server.session("cut", agent, environment)
        server.say(cut, "bash: sleep 5\nsay: slept")
        wait(lambda: any(e["type"] == "agent.tool_use" for e in server.events(cut)))
        server.say(cut, "say: more")
        queued = server.session("queued", agent, environment)
        server.say(queued, "bash: echo later", "say: and this")
    except OSError:
        pass  # It died before it answered.
    wait(lambda: server.process.poll() is not None)
    with sqlite3.connect(folder / "data/freehold.db") as database:
        titles = dict(database.execute("SELECT title, session_id FROM session_body"))
        rows = "SELECT kind FROM {} WHERE session_id = ? ORDER BY seq"

        def kinds(table: str, title: str) -> list[str]:
            return [kind for (kind,) in database.execute(rows.format(table), [titles.get(title)])]

        waiting = len(kinds("inbox", "cut")), len(kinds("inbox", "queued"))
        begun, log = kinds("event", "queued"), kinds("event", "cut")
    print(passage, waiting, begun, log)
    return waiting == (1, 2) and not begun and "agent.tool_use" in log and "agent.tool_result" not in log


def main(program: Path, dest: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        rest = Path(home) / "rest"
        rest.mkdir()
        server = Server(program, rest)
        agent, environment = at_rest(server)
        self_hosted(server, agent)
        server.kill()
        for passage in range(1, 20):
            folder = Path(home) / str(passage)
            shutil.copytree(rest, folder, ignore=shutil.ignore_patterns("sandboxes"))
            if interrupted(program, folder, agent, environment, passage):
                pack(folder / "data", dest)
                return
        raise SystemExit("at no passage were both sessions as they are wanted")


def pack(data: Path, dest: Path) -> None:
    # What was in the log of the database goes into its file.
    with sqlite3.connect(data / "freehold.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with tarfile.open(dest, "w:gz", compresslevel=9) as packed:
        for name in ("freehold.db", "blobs"):
            packed.add(data / name, name)
    print(dest, dest.stat().st_size, sorted(p.name for p in data.iterdir()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
