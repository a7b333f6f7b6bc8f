"""The files of a sandbox follow their session from one replica to another."""

from __future__ import annotations

import signal
from typing import Any

import anthropic
import pytest

from harness.chat import Chat, of, texts
from harness.watch import wait_until

LOST = "restored from a snapshot taken at"


def result(session: Chat, text: str) -> Any:
    """What the one tool call of a turn gave."""
    (found,) = of(session.turn(text).seen, "agent.tool_result")
    return found


def bash(session: Chat, command: str) -> str:
    found = result(session, f"bash: {command}")
    assert not found.is_error, texts(found)
    return texts(found)


def test_files_follow_their_session_and_come_back(pair):
    session = pair.session(pair.a)
    bash(session, "echo first > first.txt; mkdir -p ~/cache; echo warm > ~/cache/x; chmod 700 ~/cache")
    # At once, so that some of it is saved while the replica stops.
    assert pair.a.stop() == 0
    session = pair.at(pair.b, session)
    assert bash(session, "cat first.txt ~/cache/x; stat -c %a ~/cache").split() == ["first", "warm", "700"]
    bash(session, "echo second > second.txt; rm first.txt")
    pair.a.start()
    assert pair.b.stop() == 0
    session = pair.at(pair.a, session)
    # What it has itself is older, and goes.
    assert bash(session, "cat second.txt; ls").split() == ["second", "second.txt"]
    assert pair.a.stop() == 0
    pair.a.start()
    session = pair.at(pair.a, session)
    assert bash(session, "ls").split() == ["second.txt"]
    assert pair.row(session)["generation"] == "3", "its own restart is no move"
    session.check()


def test_after_a_crash_the_agent_is_told_once(pair):
    session = pair.session(pair.a)
    bash(session, "echo kept > kept.txt")
    pair.wait_saved(session)
    session.send("bash: echo lost > lost.txt; sleep 600")
    wait_until("the call", lambda: pair.row(session)["changes"] == "2")
    pair.a.kill()
    session = pair.at(pair.b, session)
    wait_until("the session to rest", lambda: session.get().status == "idle")
    first = bash(session, "ls")
    assert "kept.txt" in first and "lost.txt" not in first
    assert LOST in first
    assert LOST not in bash(session, "ls")
    # The one that crashed has files that nobody wants any more.
    pair.a.start()
    pair.wait_saved(session)
    assert pair.b.stop() == 0
    session = pair.at(pair.a, session)
    assert bash(session, "ls").split() == ["kept.txt"]
    session.check()


def test_a_crash_before_any_snapshot_is_told(pair):
    session = pair.session(pair.a)
    session.send("bash: echo lost > lost.txt; sleep 600")
    wait_until("the call", lambda: pair.row(session).get("changes") == "1")
    pair.a.kill()
    session = pair.at(pair.b, session)
    wait_until("the session to rest", lambda: session.get().status == "idle")
    first = bash(session, "ls")
    assert "lost.txt" not in first and "The sandbox is new" in first
    assert bash(session, "echo $PWD") == "/workspace"


def test_memory_stores_are_mounted_anew(pair):
    client = pair.client(pair.b)
    store = client.beta.memory_stores.create(name="Team Notes")
    memories = client.beta.memory_stores.memories
    memories.create(store.id, path="/given", content="given")
    gone = memories.create(store.id, path="/gone", content="gone")
    attached = {"type": "memory_store", "memory_store_id": store.id}
    session = pair.session(pair.a, resources=[attached])
    bash(session, "cd /mnt/memory/team-notes; echo kept > written")
    assert pair.a.stop() == 0
    memories.delete(gone.id, memory_store_id=store.id)
    session = pair.at(pair.b, session)
    assert bash(session, "cd /mnt/memory/team-notes; ls; cat given; echo more >> written").split() == ["given", "written", "given"]
    found = {m.path: memories.retrieve(m.id, memory_store_id=store.id).content for m in memories.list(store.id)}
    assert found == {"/given": "given", "/written": "kept\nmore\n"}


def test_a_deleted_session_leaves_no_snapshot(pair):
    session = pair.session(pair.a)
    bash(session, "echo secret > secret.txt")
    key = pair.wait_saved(session)
    assert pair.blob(key) and pair.folder(pair.a, session)
    bash(session, "echo more > more.txt")
    wait_until("the next snapshot", lambda: pair.wait_saved(session) != key)
    assert not pair.blob(key), "the one before goes"
    key = pair.wait_saved(session)
    pair.client(pair.b).beta.sessions.delete(session.id)
    assert not pair.blob(key)
    assert not pair.row(session)
    wait_until("the sandbox to go where it was", lambda: not pair.folder(pair.a, session))
    with pytest.raises(anthropic.NotFoundError):
        session.get()
    assert pair.a.stop() == 0


def test_a_snapshot_that_is_damaged_is_an_error_and_no_empty_workspace(pair):
    session = pair.session(pair.a)
    bash(session, "echo mine > mine.txt")
    assert pair.a.stop() == 0
    (blob,) = pair.blob(pair.wait_saved(session))
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    session = pair.at(pair.b, session)
    damaged = result(session, "bash: ls")
    assert damaged.is_error and "snapshot" in texts(damaged)
    blob.unlink()
    missing = result(session, "bash: ls")
    assert missing.is_error and "could not be restored" in texts(missing)
    blob.write_bytes(whole)
    assert bash(session, "ls").split() == ["mine.txt"]


def test_one_that_was_thought_dead_does_not_go_on_with_old_files(pair):
    session = pair.session(pair.a)
    bash(session, "echo old > note.txt; echo only here > gone.txt")
    pair.wait_saved(session)
    pair.a.process.send_signal(signal.SIGSTOP)
    session = pair.at(pair.b, session)
    bash(session, "echo new > note.txt; rm gone.txt")
    pair.a.process.send_signal(signal.SIGCONT)
    assert pair.b.stop() == 0
    # Its sandbox lives still, and its files are of before.
    session = pair.at(pair.a, session)
    assert bash(session, "ls; cat note.txt").split() == ["note.txt", "new"]
    assert pair.a.stop() == 0
