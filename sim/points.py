"""Named crash points with several replicas on PostgreSQL: every `crash_point!` of the source, at its first passages.

Each armed process serves a session of its own until it dies; a healthy replica, or the worker after it, has
to bring the session to its end. Points are found in the source, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.watch import Gone, wait_until

from . import ROOT
from .checker import judge
from .clients import TROUBLE, Talk, at_rest, history, settle
from .scenarios import Outcome, conclude, report
from .world import World

ARMED = "FREEHOLD_CRASH_POINT"
# Of one process; a turn passes none more often than the log's own.
HITS = {"store.commit.before": 12, "store.commit.after": 12}
MOST_HITS = 6
# Armed replicas at a time.
BATCH = 9


def points() -> list[str]:
    """Every named point of the source."""
    found: set[str] = set()
    for file in (ROOT / "crates").glob("*/src/**/*.rs"):
        found.update(re.findall(r'crash_point!\("([^"]+)"\)', file.read_text()))
    return sorted(found)


class Once(Talk):
    """Says one thing, to the first server first, with calls one after the other and at once."""

    def rotated(self, urls: list[str]) -> list[str]:
        return urls

    def _send(self) -> None:
        self.send(f"{self.id}/0")
        self.finished.set()

    def _plan(self, mark: str) -> str:
        custom = [["bash", "mark"]] if "mark" in self.kinds else []
        return json.dumps({"plan": ["bash", ["bash", "bash"], *custom], "effects": self.effects, "mark": mark})


def run(hits: int, seed: int = 1) -> Outcome:
    """Each point at its first so many passages, as far as a turn comes to them."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="sim-points-"))
    print(f"==> points: {len(points())} named points, the first {hits} passages of each, in {folder}", flush=True)
    world = World(folder, seed, True, servers=BATCH + 1, workers=1, gateways="")
    crashed: Counter[str] = Counter()
    try:
        for name in world.names[1:]:
            world.servers[name].kill()
        world.workers.pop("worker1").kill()
        # Servers and workers at the same time: most of it is waiting for leases.
        both = [
            threading.Thread(target=_all, args=(world, crashed, hits, of_workers)) for of_workers in (False, True)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        world.peek(random.Random(seed))
        missed = [p for p in points() if not crashed[p]]
        world.notes.broken += [f"{p} was never reached: nothing is shown of it" for p in missed]
        record, errors = conclude(world)
    finally:
        world.close()
    outcome = Outcome("points", time.monotonic() - began, crashed, record, judge(record), {}, errors)
    report(outcome)
    if not outcome.wrongs:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _all(world: World, crashed: Counter[str], hits: int, of_workers: bool) -> None:
    mine = [p for p in points() if p.startswith("worker.") == of_workers]
    todo = [(p, n) for n in range(1, hits + 1) for p in mine if n <= HITS.get(p, MOST_HITS)]
    try:
        for start in range(0, len(todo), BATCH):
            (_workers if of_workers else _servers)(world, todo[start : start + BATCH], crashed)
    except Exception as error:  # noqa: BLE001 - shown at the end, as a violation
        world.notes.broken.append(f"points: {error!r}")


def _servers(world: World, batch: list[tuple[str, int]], crashed: Counter[str]) -> None:
    healthy = world.names[0]
    armed: list[tuple[str, str, int]] = []
    talks: list[Talk] = []
    for name, (point, hit) in zip(world.names[1:], batch, strict=False):
        server = world.servers[name]
        server.env = {ARMED: f"{point}:{hit}"}
        armed.append((name, point, hit))
        with suppress(RuntimeError):  # It may die before it listens.
            server.start()
        if server.url:
            talks.append(world.talk("cloud", talk=Once, urls=[server.url, world.servers[healthy].url]))
    _settled(talks)
    for name, point, hit in armed:
        _note(world.servers[name].process, point, hit, crashed)
        world.servers[name].kill()


def _workers(world: World, batch: list[tuple[str, int]], crashed: Counter[str]) -> None:
    server = world.names[0]
    talks = [world.talk("hosted", talk=Once, urls=[world.servers[server].url]) for _ in batch]
    armed = []
    for point, hit in batch:
        name = f"armed-{point}-{hit}"
        # One session each, so that each of them has something to do.
        world.start_worker(name, "worker1", server, "--max-sessions", "1", env={ARMED: f"{point}:{hit}"})
        armed.append((name, point, hit))
    dead = lambda: all(world.workers[name].process.poll() is not None for name, *_ in armed)  # noqa: E731
    with suppress(Gone):
        wait_until("the ends of workers", lambda: dead() or _rest(talks), 40)
    for name, point, hit in armed:
        proc = world.workers[name]
        _note(proc.process, point, hit, crashed)
        proc.kill()
        # It comes back to its journal.
        del proc.env[ARMED]
        proc.start()
    _settled(talks)
    for name, *_ in armed:
        world.workers.pop(name).kill()


def _rest(talks: list[Talk]) -> bool:
    return not [t for t in talks if not _at_rest(t)]


def _at_rest(talk: Talk) -> bool:
    with suppress(*TROUBLE):
        return at_rest(history(talk.client, talk.id))
    return False


def _settled(talks: list[Talk]) -> None:
    """Each has said its one thing, and all are at rest."""
    for talk in talks:
        talk.finished.wait(90)
    settle(talks, 90)


def _note(process: Any, point: str, hit: int, crashed: Counter[str]) -> None:
    status = process.poll()
    if status is None:
        print(f"    {point}:{hit}: not reached", flush=True)
        return
    # Aborted, and nothing else.
    assert status in (-6, 134), f"{point}:{hit}: ended with {status}"
    crashed[point] += 1
    print(f"    {point}:{hit}: crashed", flush=True)
