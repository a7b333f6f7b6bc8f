"""An agent that searches its whole world finds no credential."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from anthropic import Anthropic
from conftest import Queue, Worker
from harness.chat import Chat, of, texts
from harness.server import Server
from harness.watch import Watch
from test_two_hosts import TOOLSET, end_turn

SEARCH = Path(__file__).with_name("world.py")
Start = Callable[..., Worker]
Make = Callable[..., Chat]


# Written by a process that is gone when the search begins.
PLANT = """python3 -c 'open("planted", "w").write("sk-" + "ant-oat01-" + "a" * 24)'"""


def searched(session: Chat, option: str, words: list[str]) -> list[str]:
    """What the agent's search says, line by line. It finds at least what is planted."""
    store = "\n".join(f"| {line}" for line in SEARCH.read_text().splitlines())
    hidden = " ".join(word[::-1] for word in words)
    with session.watch() as watch:
        session.send(f"write: world.py <<<\n{store}\nbash: {PLANT}\nbash: python3 world.py {option} {hidden} 2>&1\nsay: searched")
        end_turn(watch)
    said = texts(of(session.history(), "user.tool_result")[-1]).splitlines()
    assert said[-1] == "done", said
    return said


def waiting(chat: Make) -> tuple[Chat, Watch]:
    """Another session of the same worker, with a sandbox that lives and a call that runs."""
    other = chat({"tools": [TOOLSET]})
    watch = other.watch()
    other.send("bash: mkfifo gate; echo other-session-marker > mine; export MINE=other-session-marker; cat gate")
    watch.until("agent.tool_use")
    return other, watch


@pytest.mark.parametrize("sandbox", ["namespaces", "process"])
def test_the_whole_world_of_an_agent(
    sandbox: str, worker: Start, chat: Make, queue: Queue, server: Server, client: Anthropic
) -> None:
    """What is planted is found, and without isolation the worker's key: the search can find."""
    one = worker("freehold", "--sandbox", sandbox)
    other, watch = waiting(chat)
    option = "" if sandbox == "namespaces" else "--ancestors"
    said = searched(chat({"tools": [TOOLSET]}), option, [queue.key, server.key, "other-session-marker"])
    found = [line for line in said if line.startswith("FOUND")]
    print(said[0])
    if sandbox == "namespaces":
        assert found == ["FOUND a credential in /workspace/planted"], said
    else:
        assert f"FOUND a word in environ of process {one.process.pid}" in found, said
        assert any("credential in the memory of process" in line for line in found), said
    other.send({"type": "user.interrupt"})
    watch.until("session.status_idle")
    watch.close()
