"""Two hosts on one machine: network namespaces joined by one cable, with a firewall between.

`server` holds the server and the operator's clients, `worker` what runs in the customer's network.
From `worker` exactly one TCP port of `server` can be reached, and nothing else anywhere.
"""

from __future__ import annotations

import ctypes
import os
import subprocess

SERVER_ADDRESS = "192.0.2.1"
WORKER_ADDRESS = "192.0.2.2"
# Free in a namespace of our own.
PORT = 8787

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, feed: str | None = None) -> None:
    """Runs a command that has to succeed."""
    done = subprocess.run(command, input=feed, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def enter_namespace(namespace: str | int) -> None:
    """Moves this thread, and every thread it starts from now on, to a namespace, by name or as a descriptor."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC) if isinstance(namespace, str) else os.dup(namespace)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
    finally:
        os.close(fd)


class Host:
    """One namespace, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def command(self, *argv: str) -> list[str]:
        """The command that runs `argv` on this host."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *argv]

    def enter(self) -> None:
        """Moves this thread, and every thread it starts from now on, to this host."""
        enter_namespace(self.name)

    def remove(self) -> None:
        """Ends the namespace once nothing runs in it."""
        run("ip", "netns", "delete", self.name)


class Hosts:
    """The two, joined."""

    def __init__(self, port: int = PORT) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        mark = f"fh{os.getpid()}-{port}"
        self.server = Host(f"{mark}-server")
        self.worker = Host(f"{mark}-worker")
        server, worker = self.server.name, self.worker.name
        run("ip", "-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", worker)
        for host, address in ((server, SERVER_ADDRESS), (worker, WORKER_ADDRESS)):
            run("ip", "-n", host, "address", "add", f"{address}/30", "dev", "cable")
            run("ip", "-n", host, "link", "set", "cable", "up")
        rules = f"""
        table inet hosts {{
          chain input {{
            type filter hook input priority 0; policy drop;
            iifname "lo" accept
            ct state established,related accept
            iifname != "lo" tcp dport {port} accept
          }}
        }}
        """
        run(*self.server.command("nft", "-f", "-"), feed=rules)

    def stranger(self) -> Host:
        """Another host, which reaches the server's port and nothing else, and nobody reaches."""
        host = Host(f"fh{os.getpid()}-stranger")
        run("ip", "-n", self.server.name, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", host.name)
        for one, address in ((self.server, "198.51.100.1"), (host, "198.51.100.2")):
            run("ip", "-n", one.name, "address", "add", f"{address}/30", "dev", "wire")
            run("ip", "-n", one.name, "link", "set", "wire", "up")
        return host

    def close(self) -> None:
        """Back to where we came from; the namespaces go."""
        enter_namespace(self._home)
        os.close(self._home)
        self.server.remove()
        self.worker.remove()
