"""Systems that are really broken. The judge has to find out about each of them; otherwise its yes is worth nothing."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

import httpx2

from .checker import judge
from .clients import RoundRobin, Talk
from .scenarios import conclude
from .world import World


class ReplayingTransport(RoundRobin):
    """A proxy that sends inputs once more when it has the answer, as some do that think it was lost."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        mark = request.headers.get("x-sim-input")
        if mark and answer.status_code == 200:
            answer.read()
            answer = super().handle_request(request)
            # The client knows of one.
            self.posts[mark] -= 1
        return answer


class Replayed(Talk):
    def make_transport(self, urls: list[str]) -> RoundRobin:
        return ReplayingTransport(urls)


class Liar(Talk):
    """Notes an acknowledgement that no server ever gave."""

    def send(self, mark: str) -> None:
        if mark.endswith("/2"):
            self.notes.attempts.append({"session": self.id, "mark": mark, "posts": 1})
            self.acked("sevt_that_never_was", mark)
        else:
            super().send(mark)


def clients(seconds: float) -> dict[str, dict[str, list[str]]]:
    """An honest session, one whose inputs are sent twice, one with a client that lies: what is said of each."""
    folder = tempfile.TemporaryDirectory(prefix="sim-broken-", ignore_cleanup_errors=True)
    world = World(Path(folder.name), 1, False, gateways="", workers=0)
    try:
        talks = {kind.__name__: world.talk("cloud", talk=kind) for kind in (Talk, Replayed, Liar)}
        time.sleep(seconds)
        world.peek(random.Random(1))
        record, _ = conclude(world)
    finally:
        world.close()
        folder.cleanup()
    wrongs = judge(record)
    return {
        name: {prop: mine for prop, found in wrongs.items() if (mine := [w for w in found if talk.id in w])}
        for name, talk in talks.items()
    }


def forgetful_disk(seconds: float) -> dict[str, list[str]]:
    """The server's disk loses the last seconds of what was durable: the database is put back to an older copy."""
    folder = tempfile.TemporaryDirectory(prefix="sim-broken-", ignore_cleanup_errors=True)
    world = World(Path(folder.name), 1, False, gateways="", workers=0)
    try:
        server, data = world.servers["a"], world.folder / "a/data"
        for _ in range(2):
            world.talk("cloud")
        time.sleep(seconds)
        server.kill()
        older = world.folder / "older"
        older.mkdir()
        for file in data.glob("freehold.db*"):
            shutil.copy(file, older)
        world.start_server("a")
        time.sleep(seconds)
        server.kill()
        for file in data.glob("freehold.db*"):
            file.unlink()
        for file in older.iterdir():
            shutil.copy(file, data)
        world.start_server("a")
        world.peek(random.Random(1))
        record, _ = conclude(world)
    finally:
        world.close()
        folder.cleanup()
    return judge(record)
