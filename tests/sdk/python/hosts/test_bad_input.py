"""What a worker makes of hostile agents, hostile skills, and a server that is not itself."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic, APIStatusError
from conftest import Queue, Worker
from harness.chat import Chat, of, texts
from harness.netns import Hosts
from harness.watch import wait_until
from harness.wire_cutter import WireCutter
from test_two_hosts import SKILL, TOOLSET, end_turn

Start = Callable[..., Worker]
Make = Callable[..., Chat]

# A result's text is cut far below this.
MAX_TEXT = 1 << 20
# The worker keeps only what it sends of an output, whatever an agent prints.
MAX_WORKER_KIB = 512 << 10


def results(session: Chat, script: str) -> list[Any]:
    """The result of each call of one turn, in the order of the calls."""
    with session.watch() as watch:
        session.send(script)
        end_turn(watch)
        uses = watch.of("agent.tool_use")
    found = {e.tool_use_id: e for e in of(session.history(), "user.tool_result")}
    return [found[use.id] for use in uses]


def told(session: Chat, script: str) -> list[str]:
    """The texts of [`results`]."""
    return [texts(result) for result in results(session, script)]


def peak_kib(worker: Worker) -> int:
    """The most memory the worker ever had, KiB."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_gigabyte_and_bytes_that_are_no_text(worker: Start, chat: Make) -> None:
    one = worker("freehold")
    session = chat({"tools": [TOOLSET]})
    large, binary, after = told(
        session,
        "bash: head -c 1000000000 /dev/zero | tr '\\0' x\nbash: head -c 100000 /dev/urandom\nbash: echo alive",
    )
    assert "xxxx" in large and len(large) < MAX_TEXT
    assert len(binary) < MAX_TEXT
    assert after == "alive"
    assert peak_kib(one) < MAX_WORKER_KIB


def test_inputs_of_wrong_type_and_size(worker: Start, chat: Make) -> None:
    worker("freehold")
    session = chat({"tools": [TOOLSET]})
    wrong = [
        'bash {"command": 5}',
        'bash {"command": ["ls"]}',
        "bash {}",
        'bash {"command": "ls", "timeout_ms": "soon"}',
        'bash {"command": "a\\u0000b"}',
        'read {"file_path": {"a": 1}}',
        'read {"file_path": "' + "d/" * 5000 + '"}',
        'read {"file_path": "a\\u0000b"}',
        'read {"file_path": "../../../../proc/1/mem"}',
        'write {"file_path": "x"}',
        'write {"file_path": "", "content": "x"}',
        'edit {"file_path": "x", "old_string": null, "new_string": 1}',
        'glob {"pattern": "' + "{a," * 2000 + '"}',
        'grep {"pattern": "(((("}',
        'bash {"command": ' + "[" * 100 + "]" * 100 + "}",
    ]
    script = "\n".join(f"tool: {call}" for call in wrong) + "\nbash: echo alive"
    *answers, last = results(session, script)
    accepted = [(call[:60], texts(a)) for call, a in zip(wrong, answers, strict=True) if not a.is_error]
    assert accepted == []
    assert all(len(texts(answer)) < MAX_TEXT for answer in answers)
    assert texts(last) == "alive"
    # Not wrong, but long.
    long = "x" * 100_000
    assert told(session, f"bash: printf %s {long} | wc -c\nbash: echo alive")[-1] == "alive"


def archive(name: str, content: bytes, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A skill with one more entry."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as made:
        made.writestr("greeter/SKILL.md", SKILL)
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = method
        made.writestr(entry, content)
    return whole.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        archive("greeter/../../../../../../tmp/evil", b"x"),
        archive("/tmp/evil", b"x"),
        archive("greeter/link", b"/etc/shadow", 0o120777),
        archive("greeter/device", b"", 0o020666),
        archive("greeter/bomb", bytes(400 << 20)),
    ],
    ids=["climbs", "absolute", "link", "device", "bomb"],
)
def test_a_hostile_archive_never_becomes_a_skill(client: Anthropic, hostile: bytes) -> None:
    with pytest.raises(APIStatusError) as refused:
        client.beta.skills.create(files=[("skill.zip", hostile, "application/zip")])
    assert refused.value.status_code in (400, 413)
    good = client.beta.skills.create(files=[("skill.zip", archive("greeter/good", b"x"), "application/zip")])
    assert good.id


@pytest.fixture
def cutter(hosts: Hosts) -> Iterator[WireCutter]:
    cutter = WireCutter(hosts.worker)
    yield cutter
    cutter.close()


class Gate:
    """A call that leaves a mark, and ends when it is let."""

    def __init__(self, folder: Path) -> None:
        self.effects, self.path = folder / "effects", folder / "gate"
        os.mkfifo(self.path)
        self.script = f"bash: echo ran >> {self.effects}; cat {self.path}\nbash: echo after\nsay: over"

    def runs(self) -> None:
        wait_until("the call's mark", lambda: self.effects.exists() and self.effects.read_text())

    def open(self) -> None:
        self.path.write_text("opened\n")


def test_a_server_that_answers_garbage_and_goes_away(
    worker: Start, chat: Make, cutter: WireCutter, queue: Queue, tmp_path: Path
) -> None:
    """Within the lease nothing is lost: the call's result arrives, once."""
    gate = Gate(tmp_path)
    session = chat({"tools": [TOOLSET]})
    worker("freehold", "--sandbox", "process", "--lease", "10m", url=cutter.url)
    with session.watch() as watch:
        session.send(gate.script)
        gate.runs()
        cutter.set("garbage")
        gate.open()
        wait_until("garbage of every kind", lambda: cutter.refused >= 8)
        cutter.set("gone")
        wait_until("attempts", lambda: cutter.refused >= 4)
        cutter.set("pass")
        end_turn(watch)
    assert [texts(e) for e in of(session.history(), "user.tool_result")] == ["opened", "after"]
    assert gate.effects.read_text() == "ran\n"
    wait_until("an empty queue", queue.is_empty)


def test_a_server_that_stays_away_for_longer_than_the_lease(
    worker: Start, chat: Make, cutter: WireCutter, queue: Queue, tmp_path: Path
) -> None:
    """The call is given up and killed, because another worker may have the session."""
    gate = Gate(tmp_path)
    session = chat({"tools": [TOOLSET]})
    one = worker("freehold", "--sandbox", "process", url=cutter.url)
    with session.watch() as watch:
        session.send(gate.script)
        gate.runs()
        cutter.set("gone")
        wait_until("the end of the lease", lambda: "lease_assumed_lost" in one.said())
        cutter.set("pass")
        end_turn(watch)
    unknown, after = of(session.history(), "user.tool_result")
    assert unknown.is_error and "Whether the call took effect is unknown" in texts(unknown)
    assert texts(after) == "after"
    assert gate.effects.read_text() == "ran\n"
    wait_until("an empty queue", queue.is_empty)
