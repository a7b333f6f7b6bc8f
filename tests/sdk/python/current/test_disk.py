"""A data disk that agents fill: what the server must write, it still can."""

import os
import subprocess

import pytest

from conftest import CONFIG
from harness.chat import Chat, of, texts
from harness.server import Server
from harness.watch import wait_until
from test_durability import start

MIB = 1 << 20
DISK, FLOOR = 512, 256


@pytest.fixture
def small(tmp_path, upstream):
    """A server on a file system of its own, of which a part is to stay free."""
    if os.geteuid() != 0:
        pytest.fail("NOT RUN: mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", disk], check=True)
    config = CONFIG.format(upstream=upstream.url)
    section = "[sandbox]\n"
    floor = f"{section}min_free_mib = {FLOOR}\n"
    config = config.replace(section, floor) if section in config else config + "\n" + floor
    server = Server(disk, upstream.url, config)
    yield server, disk
    if server.process.poll() is None:
        server.stop()
    complaints = server.complaints()
    subprocess.run(["umount", "--lazy", disk], check=True)
    assert not complaints, complaints


def free(disk):
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize // MIB


def test_one_tenant_cannot_take_the_last_of_the_disk(small):
    server, disk = small
    greedy = start(server, "rehearsal")
    watch = greedy.turn("bash: echo kept > note.txt; for i in 1 2 3 4 5 6 7 8; do head -c 100M /dev/urandom > big$i; done")
    (result,) = of(watch.seen, "agent.tool_result")
    assert result.is_error and "nearly full" in texts(result), texts(result)
    assert free(disk) > 16
    # Nobody else's tools run now, and everything that needs no sandbox does.
    first = greedy.get()
    other = Chat(greedy.client, greedy.client.beta.sessions.create(agent=first.agent.id, environment_id=first.environment_id))
    (refused,) = of(other.turn("bash: echo hello").seen, "agent.tool_result")
    assert refused.is_error and "nearly full" in texts(refused)
    assert of(other.turn("say: still here").seen, "agent.message")
    # Room again: the one who took it all is gone.
    greedy.client.beta.sessions.delete(greedy.id)
    wait_until("room", lambda: free(disk) > FLOOR + 64)
    (served,) = of(other.turn("bash: echo hello").seen, "agent.tool_result")
    assert (served.is_error or False, texts(served).strip()) == (False, "hello")
    other.check()
