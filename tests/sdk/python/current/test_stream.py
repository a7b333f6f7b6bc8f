"""Event streams: deltas, order, reconnecting without gaps, ends."""

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

from conftest import TOOLSET
from harness.chat import last_text, of, texts, user
from harness.upstream import gated_text, thinking, tool
from harness.watch import Watch, wait_until


TURN = [
    "session.status_running",
    "session.thread_status_running",
    "span.model_request_start",
    "agent.message",
    "span.model_request_end",
    "session.thread_status_idle",
    "session.usage",
    "session.status_idle",
]


def test_order_of_a_turn(chat, script):
    script.say("Good morning.")
    session = chat(script.model)
    watch = session.turn("hello")
    # A queued message may be shown both before and after it is taken up; clients go by its id.
    assert {e.id for e in of(watch.seen, "user.message")} == {session.history()[0].id}
    assert [t for t in watch.types() if t != "user.message"] == TURN
    assert [e.type for e in session.history()] == ["user.message", *TURN]


def test_deltas_add_up_to_the_message(chat, script):
    script.say("One two three four five six.", "A second block.")
    session = chat(script.model)
    with session.watch("agent.message") as watch:
        session.send("count")
        watch.idle()
    snapshot, previews = None, 0
    for event in watch:
        before = snapshot
        snapshot = accumulate_managed_agents_event(snapshot, event)
        if event.type == "event_delta":
            previews += 1
            assert event.event_id == snapshot.id
        if event.type == "agent.message":
            preview, final = texts(before), texts(event)
            assert before.id == event.id
            assert preview and final.startswith(preview)
    assert previews >= 2, "the text came in one piece"
    starts = of(watch.seen, "event_start")
    assert len({s.event.id for s in starts}) == len(starts)
    assert {s.event.id for s in starts} <= {e.id for e in of(watch.seen, "agent.message")}


def test_no_deltas_unless_asked_for(chat, script):
    script.say("One two three four five six.")
    watch = chat(script.model).turn("count")
    assert not of(watch.seen, "event_start") and not of(watch.seen, "event_delta")


def test_thinking_is_announced_and_goes_back_unchanged(chat, script):
    script.say(thinking("private thoughts", "c2lnbmF0dXJl"), tool("bash", {"command": "echo hi"}))
    script.say("done")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    with session.watch("agent.message", "agent.thinking") as watch:
        session.send("think")
        watch.idle()
    thoughts = of(watch.seen, "agent.thinking")
    assert len(thoughts) == 1
    assert "private thoughts" not in str([e.to_dict() for e in watch])
    starts = [e for e in of(watch.seen, "event_start") if e.event.type == "agent.thinking"]
    assert [s.event.id for s in starts] == [thoughts[0].id]
    # The model gets its own block back, byte for byte, or it could not verify the signature.
    block = script.requests[1].body["messages"][1]["content"][0]
    assert block == {"type": "thinking", "thinking": "private thoughts", "signature": "c2lnbmF0dXJl"}


def test_a_stream_opened_in_the_middle_gets_no_half_previews(chat, script):
    gate = script.gate()
    script.say(gated_text("The beginning and the end.", gate), gate)
    session = chat(script.model)
    with session.watch("agent.message") as first:
        session.send("go")
        gate.wait_reached()
        first.until("event_delta")
        with session.watch("agent.message") as late:
            gate.open()
            late.idle()
            assert not of(late.seen, "event_start") and not of(late.seen, "event_delta")
            assert last_text(late.seen) == "The beginning and the end."
        first.idle()


def test_reconnecting_leaves_no_gap(chat, script):
    """Open the stream, list the history, skip what is known: nothing is lost, nothing doubled."""
    gate = script.gate()
    script.say("before", tool("bash", {"command": "echo one"}))
    script.say(gated_text("middle text here", gate), gate, tool("bash", {"command": "echo two"}))
    script.say("after")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    first = session.watch()
    session.send("go")
    gate.wait_reached()
    first.close()
    gone = {e.id for e in first}
    with session.watch() as again:
        known = {e.id: e for e in session.history()}
        gate.open()
        again.idle()
    assert gone <= set(known)
    for event in again:
        known.setdefault(event.id, event)
    assert list(known) == [e.id for e in session.history()]


def test_two_streams_see_the_same(chat, script):
    script.say("for both")
    session = chat(script.model)
    with session.watch() as one, session.watch() as two:
        session.send("go")
        one.idle()
        two.idle()
        assert one.types() == two.types()
        assert [e.id for e in one] == [e.id for e in two]


def test_deleting_ends_the_stream(chat, client):
    session = chat()
    session.turn("say: hi")
    watch = session.watch()
    client.beta.sessions.delete(session.id)
    watch.until("session.deleted")
    watch.end()
    assert watch.types()[-1] == "session.deleted"
    with pytest.raises(anthropic.NotFoundError):
        session.history()


def test_archiving_is_seen(chat, client):
    session = chat()
    session.turn("say: hi")
    with session.watch() as watch:
        archived = client.beta.sessions.archive(session.id)
        watch.until("session.status_terminated")
    assert archived.status == "terminated" and archived.archived_at is not None


def test_primary_thread_streams_the_same(chat, client, script):
    script.say("on the thread")
    session = chat(script.model)
    thread = list(client.beta.sessions.threads.list(session.id))[0]
    with Watch(
        lambda: client.beta.sessions.threads.events.stream(
            thread.id, session_id=session.id, event_deltas=["agent.message"]
        )
    ) as watch:
        session.send("go")
        watch.until("session.thread_status_idle")
    assert last_text(watch.seen) == "on the thread"
    assert of(watch.seen, "event_delta")
    listed = list(client.beta.sessions.threads.events.list(thread.id, session_id=session.id))
    assert "on the thread" in last_text(listed)
    assert of(listed, "session.thread_status_idle")[0].session_thread_id == thread.id


@pytest.mark.parametrize("deltas", [["agent.tool_use"], ["nonsense"], ["agent.message"] * 101])
def test_bad_event_deltas(chat, deltas):
    session = chat()
    with pytest.raises(anthropic.BadRequestError, match="event_deltas"):
        session.events.stream(session.id, event_deltas=deltas)


def test_stream_of_an_unknown_session(client):
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.events.stream("sesn_011CZkZAAAAAAAAAAAAAAAAAA")


def test_messages_while_running_are_queued_in_order(chat, script):
    gate = script.gate()
    script.say(gated_text("answer one", gate), gate)
    script.say("answer two")
    script.say("answer three")
    session = chat(script.model)
    with session.watch() as watch:
        session.send("first")
        gate.wait_reached()
        queued = session.send("second", "third").data
        assert [e.processed_at for e in queued] == [None, None]
        gate.open()
        watch.until(lambda e: e.type == "agent.message" and texts(e) == "answer one")
        watch.until(lambda e: e.type == "agent.message" and texts(e) == "answer three")
        watch.idle()
    history = session.history()
    asked = [texts(e) for e in of(history, "user.message")]
    assert asked == ["first", "second", "third"]
    assert [e.id for e in of(history, "user.message")][1:] == [e.id for e in queued]
    assert all(e.processed_at is not None for e in of(history, "user.message"))


def test_batches_keep_their_order(chat, script):
    script.say("one")
    session = chat(script.model)
    sent = session.send(user("a"), {"type": "system.message", "content": [{"type": "text", "text": "be brief"}]})
    assert [e.type for e in sent.data] == ["user.message", "system.message"]
    wait_until("the turn to end", lambda: of(session.history(), "session.status_idle"))
    body = script.requests[0].body
    assert body["messages"][-1]["role"] == "system"
    assert "be brief" in str(body["messages"][-1]["content"])
