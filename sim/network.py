"""The hosts and what lies between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from itertools import permutations

from harness.netns import Host, enter_namespace, run

from . import ROOT
from .switch import DEVICE


class Network:
    """Hosts by name, each with an address, joined by a switch that can do damage."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.hosts = {name: Host(f"sim{os.getpid()}-{name}") for name in names}
        command = [sys.executable, "-m", "sim.switch", *(h.name for h in self.hosts.values())]
        self._switch = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._lock = threading.Lock()
        self._rules: dict[str, dict[str, float]] = {}
        self._answer()
        for place, host in enumerate(self.hosts.values()):
            run(*host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"))
            run("ip", "-n", host.name, "link", "set", DEVICE, "address", f"02:00:00:00:00:{place:02x}")
            run("ip", "-n", host.name, "address", "add", f"{self.address(names[place])}/24", "dev", DEVICE)
            run("ip", "-n", host.name, "link", "set", DEVICE, "up")

    def address(self, name: str) -> str:
        return f"192.0.2.{10 + self.names.index(name)}"

    def enter(self, name: str) -> None:
        """This thread, and those it starts from now on, are on that host."""
        self.hosts[name].enter()

    def disturb(self, between: tuple[str, str], rule: dict[str, float], both_ways: bool = True) -> None:
        """What happens from now on to frames from the first to the second, and perhaps back."""
        first, second = (self.names.index(name) for name in between)
        with self._lock:
            self._rules[f"{first}-{second}"] = rule
            if both_ways:
                self._rules[f"{second}-{first}"] = rule
            self._apply()

    def isolate(self, name: str) -> None:
        """Nobody reaches this host, and it reaches nobody."""
        place = self.names.index(name)
        with self._lock:
            pairs = permutations(range(len(self.names)), 2)
            self._rules |= {f"{a}-{b}": {"cut": True} for a, b in pairs if place in (a, b)}
            self._apply()

    def heal(self) -> dict[str, int]:
        """All is well; what was cut, delayed and lost so far."""
        with self._lock:
            self._rules = {}
            return self._apply()

    def _apply(self) -> dict[str, int]:
        assert self._switch.stdin is not None
        self._switch.stdin.write(json.dumps(self._rules).encode() + b"\n")
        self._switch.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self._switch.stdout is not None
        line = self._switch.stdout.readline()
        assert line, "the switch ended"
        return json.loads(line)

    def close(self) -> None:
        self._switch.kill()
        self._switch.communicate()
        enter_namespace(self._home)
        os.close(self._home)
        for host in self.hosts.values():
            host.remove()
