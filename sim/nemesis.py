"""What goes wrong. Each fault is one function: it does its damage, lasts, and mends it.

It runs in the thread that started the processes: a database dies with that thread."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.watch import wait_until

from .world import World

# A server's lease on its sessions is 15 seconds, a worker's 6 here.
LONGER_THAN_THE_LEASE = (16.0, 21.0)
BRIEF = (0.3, 4.0)
# Sessions have less than an hour to come to rest at the end.
STEPS_S = (-3600, -45, -5, 5, 120, 3600, 86_400)


class Nemesis:
    """Faults of some kinds, one after the other, chosen by a seed."""

    def __init__(self, world: World, chance: random.Random, patience: float = 1.0) -> None:
        self.world, self.random = world, chance
        # Scales how long faults last, but for those that have to outlast a lease.
        self.patience = patience
        self.done: Counter[str] = Counter()
        self.offsets: dict[Path, int] = {}

    def run(self, kinds: list[str], until: float) -> None:
        """Each kind once, in a random order, however long that takes; then any, until the time is over."""
        first = self.random.sample(kinds, len(kinds))
        while first or time.monotonic() < until:
            kind = first.pop() if first else self.random.choice(kinds)
            self.inject(kind)
            self.world.peek(self.random)
            time.sleep(self.random.uniform(0.2, 2.5) * self.patience)

    def inject(self, kind: str) -> None:
        began = time.monotonic()
        about = FAULTS[kind](self)
        self.done[kind] += 1
        print(f"    {kind}: {about}, {time.monotonic() - began:.1f} s", flush=True)

    def last(self, span: tuple[float, float] = BRIEF) -> float:
        """Lets the fault last, and says how long it did."""
        time_s = self.random.uniform(*span) * (1 if span is LONGER_THAN_THE_LEASE else self.patience)
        time.sleep(time_s)
        return time_s

    def server(self) -> str:
        return self.random.choice(self.world.names)

    def kill_server(self) -> str:
        name = self.server()
        self.world.servers[name].kill()
        self.last(self.random.choice([(0.0, 0.3), BRIEF, (5.0, 18.0)]))
        self.world.start_server(name)
        return name

    def kill_all_servers(self) -> str:
        for server in self.world.servers.values():
            server.kill()
        self.last()
        for name in self.world.names:
            self.world.start_server(name)
        return "all"

    def stop_server(self) -> str:
        """SIGTERM: it drains, and says how it ended."""
        name = self.server()
        status = self.world.servers[name].stop()
        if status != 0:
            self.world.notes.broken.append(f"server {name} ended with {status} after SIGTERM")
        self.last()
        self.world.start_server(name)
        return name

    def _freeze(self, name: str, process: Any, span: tuple[float, float]) -> str:
        process.send_signal(signal.SIGSTOP)
        self.last(span)
        process.send_signal(signal.SIGCONT)
        return name

    def freeze_server(self) -> str:
        name = self.server()
        return self._freeze(name, self.world.servers[name].process, BRIEF)

    def freeze_server_past_its_lease(self) -> str:
        name = self.server()
        return self._freeze(name, self.world.servers[name].process, LONGER_THAN_THE_LEASE)

    def _restart(self, procs: dict[str, Any]) -> str:
        name = self.random.choice(list(procs))
        procs[name].kill()
        self.last(self.random.choice([(0.0, 0.3), BRIEF]))
        procs[name].start()
        return name

    def kill_worker(self) -> str:
        return self._restart(self.world.workers)

    def kill_gateway(self) -> str:
        return self._restart(self.world.gateways)

    def freeze_worker(self) -> str:
        name = self.random.choice(list(self.world.workers))
        return self._freeze(name, self.world.workers[name].process, BRIEF)

    def freeze_worker_past_its_lease(self) -> str:
        name = self.random.choice(list(self.world.workers))
        return self._freeze(name, self.world.workers[name].process, (7.0, 12.0))

    def freeze_model(self) -> str:
        return self._freeze("model", self.world.others[0].process, BRIEF)

    def _pair(self) -> tuple[str, str]:
        """Two hosts that have something to say to each other."""
        others = [n for n in self.world.network.names if n not in self.world.names]
        if not self.world.postgres:
            others.remove("database")
        return self.server(), self.random.choice(others)

    def _between(self, rule: dict[str, float], span: tuple[float, float], both_ways: bool = True) -> str:
        pair = self._pair()
        self.world.network.disturb(pair, rule, both_ways)
        self.last(span)
        self.world.network.heal()
        return " and ".join(pair)

    def cut(self) -> str:
        return self._between({"cut": True}, BRIEF)

    def cut_past_the_lease(self) -> str:
        return self._between({"cut": True}, LONGER_THAN_THE_LEASE)

    def cut_one_way(self) -> str:
        return self._between({"cut": True}, (1.0, 8.0), both_ways=False)

    def delay(self) -> str:
        return self._between({"delay": self.random.uniform(0.02, 0.6)}, (2.0, 8.0))

    def loss(self) -> str:
        return self._between({"loss": self.random.uniform(0.05, 0.4)}, (2.0, 8.0))

    def isolate_server(self) -> str:
        name = self.server()
        self.world.network.isolate(name)
        self.last(self.random.choice([BRIEF, LONGER_THAN_THE_LEASE]))
        self.world.network.heal()
        return name

    def isolate_database(self) -> str:
        self.world.network.isolate("database")
        self.last((1.0, 12.0))
        self.world.network.heal()
        return "database"

    def _database_again(self, how: Callable[[], None], span: tuple[float, float]) -> str:
        how()
        self.last(span)
        cluster = self._cluster()

        def started() -> bool:
            with suppress(AssertionError):
                cluster.start()
                return True
            return False

        wait_until("the database", started)
        return "database"

    def _cluster(self) -> Any:
        assert self.world.cluster is not None
        return self.world.cluster

    def restart_database(self) -> str:
        return self._database_again(lambda: self._cluster().stop("fast"), BRIEF)

    def crash_database(self) -> str:
        return self._database_again(lambda: self._cluster().stop("immediate"), (0.0, 2.0))

    def kill_database(self) -> str:
        return self._database_again(lambda: self._cluster().kill(), self.random.choice([(0.0, 1.0), (2.0, 12.0)]))

    def cut_database_connections(self) -> str:
        """Every session of the database is ended, as a failover does."""
        self._cluster().query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return "all connections"

    def _fill(self, folder: Path, span: tuple[float, float]) -> None:
        """Not a byte is left there, for a while."""
        filler = folder / "filler"
        for size in (1 << 22, 1 << 12, 1):
            with filler.open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(size))
        self.last(span)
        filler.unlink()

    def fill_disk(self) -> str:
        """The one where a server keeps its data."""
        name = self.server()
        self._fill(self.world.folder / name / "data", (1.0, 8.0))
        # What cannot write may end; whoever runs it starts it again.
        if self.world.servers[name].process.poll() is not None:
            self.world.start_server(name)
        return name

    def fill_disk_of_database(self) -> str:
        """PostgreSQL gives up when it cannot write its log, and is started again."""
        cluster = self._cluster()
        self._fill(cluster.folder, (2.0, 8.0))
        self.last((0.0, 1.0))
        if cluster.server.poll() is not None:
            self._database_again(lambda: None, (0.0, 0.1))
            return "database, which ended"
        return "database"

    def _step(self, folder: Path, name: str) -> str:
        step = self.random.choice(STEPS_S)
        self.offsets[folder] = self.offsets.get(folder, 0) + step
        # At once: a process must never read half a file.
        (folder / "clock.new").write_text(f"{self.offsets[folder]:+}\n")
        os.replace(folder / "clock.new", folder / "clock")
        self.last((1.0, 10.0))
        return f"{name} {step:+} s"

    def step_clock_of_server(self) -> str:
        name = self.server()
        return self._step(self.world.folder / name, name)

    def step_clock_of_database(self) -> str:
        return self._step(self._cluster().folder, "database")

    def mend(self) -> None:
        """Whatever is still wrong is right again, and everything runs."""
        self.world.network.heal()
        for proc in (*self.world.workers.values(), *self.world.gateways.values()):
            if proc.process.poll() is not None:
                proc.start()
        for name, server in self.world.servers.items():
            if server.process.poll() is not None:
                self.world.notes.broken.append(f"server {name} ended by itself with {server.process.returncode}")
                self.world.start_server(name)


def _faults() -> dict[str, Callable[[Nemesis], str]]:
    apart = {"run", "inject", "last", "server", "mend"}
    found = {name: f for name, f in vars(Nemesis).items() if callable(f) and not name.startswith("_")}
    return {name: f for name, f in found.items() if name not in apart}


FAULTS = _faults()
