"""The switch between the hosts, a process of its own: `python -m sim.switch NAMESPACE…`.

Each namespace gets a TAP device, and every Ethernet frame passes through here, so that what lies between
any two hosts can be cut, delayed or lossy, also in one direction alone. (The kernel's own delays, netem,
are not in every kernel.)

A line on standard input is the whole new state, `{"1-2": {"cut": true}, "2-3": {"delay": 0.1, "loss": 0.05}}`,
where 1 and 2 are places in the list of namespaces; it is answered with what was dropped and delayed so far.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time

from harness.netns import enter_namespace

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
DEVICE = "net0"
FRAME = 2048
# Frames that are on their way at a time; a real wire loses what is too much, too.
MAX_DELAYED = 20_000


def tap(namespace: str) -> int:
    enter_namespace(namespace)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
    return fd


class Switch:
    def __init__(self, namespaces: list[str]) -> None:
        self.taps = [tap(name) for name in namespaces]
        self.rules: dict[tuple[int, int], dict[str, float]] = {}
        self.later: list[tuple[float, int, int, bytes]] = []
        self.number = 0
        self.cut = self.delayed = self.lost = 0
        self.random = random.Random(1)

    def forward(self, source: int, frame: bytes) -> None:
        # Hardware addresses are made from the place in the list, so there is nothing to learn.
        if frame[0] & 1:
            for target in range(len(self.taps)):
                if target != source:
                    self.pass_on(source, target, frame)
        elif frame[5] < len(self.taps):
            self.pass_on(source, frame[5], frame)

    def pass_on(self, source: int, target: int, frame: bytes) -> None:
        rule = self.rules.get((source, target))
        if rule is None:
            return self.put(target, frame)
        if rule.get("cut"):
            self.cut += 1
        elif self.random.random() < rule.get("loss", 0) or len(self.later) > MAX_DELAYED:
            self.lost += 1
        elif "delay" in rule:
            self.delayed += 1
            self.number += 1
            # In order: TCP takes a frame that overtakes for a loss.
            heapq.heappush(self.later, (time.monotonic() + rule["delay"], self.number, target, frame))
        else:
            self.put(target, frame)

    def put(self, target: int, frame: bytes) -> None:
        try:
            os.write(self.taps[target], frame)
        except OSError:
            pass  # Its queue is full, or it is down: as on any wire.

    def command(self, line: bytes) -> None:
        rules = json.loads(line)
        self.rules = {tuple(int(n) for n in pair.split("-")): rule for pair, rule in rules.items()}  # type: ignore[misc]
        print(json.dumps({"cut": self.cut, "delayed": self.delayed, "lost": self.lost}), flush=True)

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        for place, fd in enumerate(self.taps):
            selector.register(fd, selectors.EVENT_READ, place)
        selector.register(0, selectors.EVENT_READ, None)
        print("{}", flush=True)
        while True:
            wait = max(0.0, self.later[0][0] - time.monotonic()) if self.later else None
            for key, _ in selector.select(wait):
                if key.data is None:
                    line = sys.stdin.buffer.readline()
                    if not line:
                        return
                    self.command(line)
                    continue
                try:
                    while frame := os.read(key.fd, FRAME):
                        self.forward(key.data, frame)
                except BlockingIOError:
                    pass
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, _, target, frame = heapq.heappop(self.later)
                self.put(target, frame)


if __name__ == "__main__":
    Switch(sys.argv[1:]).run()
