"""The same work done by three workers: ours and the two official ones, unmodified."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic
from conftest import Queue, Worker
from harness.chat import Chat, of, texts
from harness.netns import PORT, SERVER_ADDRESS, Hosts
from harness.watch import Watch, wait_until

KINDS = ["freehold", "python", "typescript"]
TOOLSET = {"type": "agent_toolset_20260401"}
LOOKUP = {
    "type": "custom",
    "name": "lookup",
    "description": "Looks a city up.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SKILL = """---
name: greeter
description: Greets whoever is named. Use it for greetings.
---
Run `scripts/greet.sh NAME`.
"""
# One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/q842iQAAAABJRU5ErkJggg=="

Start = Callable[..., Worker]
Make = Callable[..., Chat]


def test_only_the_servers_port_can_be_reached(hosts: Hosts, client: Anthropic) -> None:
    """What the other tests rest on: the worker's host is as cut off as it claims to be."""
    decoy = socket.create_server((SERVER_ADDRESS, 0))  # We are on the server's host.
    script = """
import socket, sys
for address, port in [(sys.argv[1], int(sys.argv[2])), (sys.argv[1], int(sys.argv[3])), ("127.0.0.1", int(sys.argv[2])),
                      ("198.51.100.1", 443)]:
    try:
        socket.create_connection((address, port), timeout=2).close()
        print("reached")
    except OSError:
        print("refused")
"""
    ports = [str(PORT), str(decoy.getsockname()[1])]
    argv = hosts.worker.command(sys.executable, "-c", script, SERVER_ADDRESS, *ports)
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    decoy.close()
    assert said == ["reached", "refused", "refused", "refused"]


def answer_lookup(session: Chat, watch: Watch) -> None:
    """A client elsewhere serves the custom tool."""
    use = watch.until("agent.custom_tool_use")
    watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "requires_action")
    result = [{"type": "text", "text": f"{use.input['city']}: found by the client"}]
    session.send({"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": result})


def results(session: Chat) -> dict[str, Any]:
    """Result events by the id of the call."""
    found = {}
    for event in session.history():
        if event.type == "user.tool_result":
            found[event.tool_use_id] = event
        elif event.type == "user.custom_tool_result":
            found[event.custom_tool_use_id] = event
    return found


def end_turn(watch: Watch) -> Any:
    return watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn", patience=120)


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_end_to_end(kind: str, worker: Start, chat: Make, client: Anthropic, queue: Queue) -> None:
    skill = client.beta.skills.create(
        files=[
            ("greeter/SKILL.md", SKILL.encode(), "text/markdown"),
            ("greeter/scripts/greet.sh", b'#!/bin/sh\necho "greetings, $1"\n', "text/x-shellscript"),
        ]
    )
    stores = client.beta.memory_stores
    notes = stores.create(name=f"notes {kind}", description="What the team knows.")
    stores.memories.create(notes.id, path="/seed.md", content="seeded by the operator")
    rules = stores.create(name=f"rules {kind}")
    stores.memories.create(rules.id, path="/rule.md", content="never change this")
    session = chat(
        {"tools": [TOOLSET, LOOKUP], "skills": [{"type": "custom", "skill_id": skill.id, "version": "latest"}]},
        resources=[
            {"type": "memory_store", "memory_store_id": notes.id},
            {"type": "memory_store", "memory_store_id": rules.id, "access": "read_only"},
        ],
    )
    mounts = {r.memory_store_id: r.mount_path for r in session.get().resources}
    started = worker(kind)
    script = f"""
bash: echo "working in $(pwd)"; export KEPT=yes
bash: echo "still $KEPT"; env | grep -c ANTHROPIC_ || true
write: notes/a.txt <<< alpha
| beta
read: notes/a.txt
tool: edit {{"file_path": "notes/a.txt", "old_string": "beta", "new_string": "gamma"}}
glob: notes/*.txt
grep: gamma
bash: sh skills/greeter/scripts/greet.sh world
bash: cat {mounts[notes.id]}/seed.md
tool: write {{"file_path": "{mounts[notes.id]}/found.md", "content": "written by the agent"}}
tool: write {{"file_path": "{mounts[rules.id]}/rule.md", "content": "changed"}}
bash: exit 7
tool: lookup {{"city": "Oslo"}}
say: all done
"""
    with session.watch() as watch:
        session.send(script)
        if kind == "freehold":
            answer_lookup(session, watch)
        end_turn(watch)
        uses = [e for e in watch.seen if e.type in ("agent.tool_use", "agent.custom_tool_use")]
    answers = results(session)
    said = [texts(answers[use.id]) for use in uses]
    failed = [bool(answers[use.id].is_error) for use in uses]
    where = "/workspace" if kind == "freehold" else str(started.workdir)
    assert said[0] == f"working in {where}"
    assert said[1] == "still yes\n0", "state is kept, and no credential's variable is there"
    assert said[3] == "alpha\nbeta"
    assert said[4] == "edited notes/a.txt (1 replacement(s))"
    if kind == "typescript":
        failed[5] = False  # Its glob wants a newer Node than the suite asks for.
    else:
        assert said[5] == f"{where}/notes/a.txt"
    assert said[6].rstrip().endswith("a.txt:2:gamma")
    assert said[7] == "greetings, world"
    assert said[8] == "seeded by the operator"
    assert failed[9] is False and failed[10] is True, "a read-only store takes no writes"
    assert failed[11] is True
    by = "client" if kind == "freehold" else "worker"
    assert said[12] == f"Oslo: found by the {by}"
    assert all(not f for i, f in enumerate(failed) if i not in (10, 11)), list(zip(said, failed, strict=True))

    def stored() -> dict[str, str]:
        return {m.path: m.content for m in stores.memories.list(notes.id, view="full")}

    found = wait_until("the memory the agent wrote", lambda: "/found.md" in stored() and stored(), patience=90)
    assert found == {"/seed.md": "seeded by the operator", "/found.md": "written by the agent"}
    assert {m.path: m.content for m in stores.memories.list(rules.id, view="full")} == {"/rule.md": "never change this"}
    wait_until("an empty queue", queue.is_empty)
    assert queue.stats().workers_polling == 1


@pytest.mark.parametrize("kind", KINDS)
def test_confirmations(kind: str, worker: Start, chat: Make) -> None:
    ask = {**TOOLSET, "default_config": {"permission_policy": {"type": "always_ask"}}}
    session = chat({"tools": [ask]})
    worker(kind)
    with session.watch() as watch:
        session.send("bash: echo ran > asked\nbash: echo again >> asked\nbash: cat asked\nsay: {result}")
        for verdict in ("allow", "deny", "allow"):
            use = watch.until("agent.tool_use")
            watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "requires_action")
            session.send({"type": "user.tool_confirmation", "tool_use_id": use.id, "result": verdict})
        end_turn(watch)
        assert texts(watch.of("agent.message")[-1]) == "ran", "what was denied did not run"


@pytest.mark.parametrize("kind", ["freehold", "python"])  # The TypeScript worker reads text only.
def test_pictures_are_seen(kind: str, worker: Start, chat: Make) -> None:
    session = chat({"tools": [TOOLSET]})
    worker(kind)
    with session.watch() as watch:
        session.send(f"bash: echo {PNG} | base64 -d > dot.png\nread: dot.png\nsay: seen")
        end_turn(watch)
    [picture] = [b for r in of(session.history(), "user.tool_result") for b in r.content if b.type == "image"]
    assert picture.source.media_type == "image/png" and picture.source.data == PNG


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_dies_is_replaced(kind: str, worker: Start, chat: Make, queue: Queue) -> None:
    """Between turns: nothing was running, so nothing is lost or unknown."""
    session = chat({"tools": [TOOLSET]})
    first = worker(kind)
    with session.watch() as watch:
        session.send("bash: echo one\nsay: {result}")
        end_turn(watch)
        first.kill()
        wait_until("the end of its lease", queue.is_empty)
        worker(kind)
        session.send("bash: echo two\nsay: {result}")
        end_turn(watch)
        assert [texts(m) for m in watch.of("agent.message")][-2:] == ["one", "two"]
