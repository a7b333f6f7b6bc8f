"""What is run: a world, sessions in it, and the faults that are chosen from."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.watch import wait_until

from .checker import Record, counts, failures, judge
from .clients import TROUBLE, connect, history, settle
from .nemesis import Nemesis
from .world import World

# How long sessions may take to come to rest after the last fault. Leases, and the waits of clients and workers
# that grow while nobody answers, are in it.
REST_S = 150

PROCESSES = ["kill_server", "kill_all_servers", "stop_server", "freeze_server", "kill_worker", "freeze_worker", "freeze_model"]
LONG = ["freeze_server_past_its_lease", "freeze_worker_past_its_lease"]
NETWORK = ["cut", "cut_one_way", "delay", "loss", "isolate_server"]
DATABASE = ["restart_database", "crash_database", "kill_database", "cut_database_connections", "isolate_database"]
TUNNEL = ["kill_gateway", "kill_server", "freeze_server", "cut", "delay"]
CLOCK = ["step_clock_of_server"]


# Takes away what keeps a process that was thought dead from going on: leases no longer count up, and a call can
# have any number of results.
UNFENCED = """
DROP INDEX event_one_result;
CREATE FUNCTION unfenced() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN NEW.lease_epoch := OLD.lease_epoch; RETURN NEW; END';
CREATE TRIGGER unfenced BEFORE UPDATE ON session FOR EACH ROW WHEN (OLD.lease_epoch > 0) EXECUTE FUNCTION unfenced();
"""


@dataclass
class Scenario:
    """`sessions` are the kinds of sessions, each in the workspace `red` but `blue`, which is in the cloud.
    `beside` are faults that happen at the same time as the others; only the network's can.
    `sabotage` is done to the database, so that the judge has something to find."""

    postgres: bool
    faults: list[str]
    sessions: list[str] = field(default_factory=lambda: ["cloud", "cloud", "hosted", "hosted", "hosted", "tunnel", "tunnel", "blue"])
    clock: bool = False
    gateways: str = "ab"
    beside: list[str] = field(default_factory=list)
    sabotage: str = ""


SCENARIOS = {
    "processes": Scenario(True, PROCESSES + LONG),
    "network": Scenario(True, [*NETWORK, "cut_past_the_lease"]),
    "database": Scenario(True, [*DATABASE, "kill_server"]),
    "disk": Scenario(True, ["fill_disk", "fill_disk_of_database", "kill_server"]),
    "clock": Scenario(True, [*CLOCK, "step_clock_of_database", "kill_server"], clock=True),
    "tunnel": Scenario(True, TUNNEL, sessions=["tunnel"] * 6 + ["cloud", "blue"]),
    # Replica b reaches the tunnel only through a.
    "one-gateway": Scenario(True, TUNNEL, sessions=["tunnel"] * 6 + ["cloud", "blue"], gateways="a"),
    "sqlite": Scenario(False, PROCESSES + LONG + NETWORK + ["fill_disk"]),
    "sqlite-clock": Scenario(False, [*CLOCK, "kill_server"], clock=True),
    "everything": Scenario(True, PROCESSES + LONG + NETWORK + DATABASE + CLOCK + ["fill_disk", "fill_disk_of_database", "kill_gateway"], clock=True),
    "overlapping": Scenario(True, PROCESSES + LONG + DATABASE, beside=NETWORK),
    # A negative control: it has to fail.
    "unfenced": Scenario(
        True, ["freeze_server_past_its_lease", "kill_server"], sessions=["cloud"] * 12 + ["blue"], sabotage=UNFENCED
    ),
    # For the tests, which have no time to wait for leases.
    "brief": Scenario(True, ["kill_server", "freeze_server", "kill_worker", "cut", "delay", "kill_database"]),
    "brief-sqlite": Scenario(False, ["kill_server", "freeze_server", "kill_worker", "cut", "fill_disk"]),
}


@dataclass
class Outcome:
    name: str
    seconds: float
    faults: Counter[str]
    record: Record
    wrongs: dict[str, list[str]]
    frames: dict[str, int]
    errors: dict[str, int]


def run(name: str, seconds: float, seed: int, patience: float = 1.0) -> Outcome:
    scenario = SCENARIOS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"sim-{name}-"))
    print(f"==> {name}: seed {seed}, {seconds:.0f} s, in {folder}", flush=True)
    began = time.monotonic()
    world = World(folder, seed, scenario.postgres, gateways=scenario.gateways, clock=scenario.clock)
    nemesis = Nemesis(world, random.Random(f"{seed} {name}"), patience)
    try:
        if scenario.sabotage and world.cluster:
            world.cluster.query(scenario.sabotage, "f1")
        for kind in scenario.sessions:
            world.talk("cloud" if kind == "blue" else kind, "blue" if kind == "blue" else "red")
        time.sleep(2 * patience)
        end = time.monotonic() + seconds
        other = Nemesis(world, random.Random(f"{seed} {name} beside"), patience)
        beside = threading.Thread(target=other.run, args=(scenario.beside, end)) if scenario.beside else None
        if beside:
            beside.start()
        nemesis.run(scenario.faults, end)
        if beside:
            beside.join()
        nemesis.mend()
        nemesis.done += other.done
        record, errors = conclude(world)
        frames = world.network.heal()
    finally:
        world.close()
    wrongs = judge(record)
    outcome = Outcome(name, time.monotonic() - began, nemesis.done, record, wrongs, frames, errors)
    report(outcome)
    if not wrongs:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def conclude(world: World) -> tuple[Record, dict[str, int]]:
    """A while without faults, and then all there is to know."""
    for talk in world.talks:
        talk.finished.set()
    for talk in world.talks:
        talk.sent()
    logs = settle(world.talks, REST_S)
    caught_up(world, logs)
    for talk in world.talks:
        talk.over.set()
    world.peek(random.Random(1))
    again = []
    for name, server in world.servers.items():
        if server.process.poll() is not None:
            continue  # One that was to stay down.
        for talk in world.talks:
            client = connect(world.keys[talk.workspace], [server.url])
            with suppress(*TROUBLE):
                ids = [e["id"] for e in history(client, talk.id)]
                again.append({"replica": name, "session": talk.id, "events": ids})
    panics, errors = world.complaints()
    ran = world.effects.read_text().split() + world.notes.marks
    if world.gateways:
        ran += filter(None, world.mcp_notes_or_none() or [])
    notes = world.notes
    return Record(
        notes.sessions,
        logs,
        again,
        notes.listings,
        notes.streams,
        notes.acked,
        notes.attempts,
        notes.interrupts,
        ran,
        notes.peeks,
        world.rows(),
        [*notes.broken, *panics],
    ), errors


def caught_up(world: World, logs: dict[str, list[dict]]) -> None:
    """Gives streams that are open the time to show the last event; the judge says whether they did."""

    def all_have() -> bool:
        for talk in world.talks:
            mine = [s for s in world.notes.streams if s["session"] == talk.id and s["open"]]
            log = logs.get(talk.id)
            if log and not (mine and log[-1]["id"] in (*mine[-1]["seen"][-1:], *mine[-1]["listed"][-1:])):
                return False
        return True

    with suppress(AssertionError):
        wait_until("streams that have all", all_have, 30)


def report(outcome: Outcome) -> None:
    seen = ", ".join(f"{n} {what}" for what, n in sorted(counts(outcome.record).items()))
    print(f"    seen: {seen}; frames: {outcome.frames}", flush=True)
    for said, times in failures(outcome.record).items():
        print(f"    a call failed, {times} times: {said}", flush=True)
    for said, times in sorted(outcome.errors.items()):
        print(f"    logged as an error, {times} times: {said}", flush=True)
    for name, wrongs in outcome.wrongs.items():
        for wrong in wrongs[:8]:
            print(f"    VIOLATION of {name}: {wrong}", flush=True)
        if len(wrongs) > 8:
            print(f"    … and {len(wrongs) - 8} more of {name}", flush=True)
