"""Several things at once, odd text, long work."""

from concurrent.futures import ThreadPoolExecutor

import anthropic
import pytest

from conftest import TOOLSET
from harness.chat import of, texts
from harness.upstream import tool
from harness.watch import wait_until

# What decoders trip over: separators Python's `splitlines` knows, NUL, quotes, SSE syntax, wide characters.
ODD = "a\u2028b\u2029c\u0085d\x00e\x1cf\r\ng\"\\ data: x\n\nevent: ping\n\U0001f6f0\ufeff \ud7ff"


def test_odd_text_comes_back_as_it_went(chat, script):
    script.say(ODD + "!", tool("bash", {"command": "cat <<'END'\n" + ODD.replace("\x00", "") + "\nEND"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    with session.watch("agent.message") as watch:
        session.send(ODD)
        watch.idle()
    assert texts(of(watch.seen, "user.message")[0]) == ODD
    assert texts(of(watch.seen, "agent.message")[0]) == ODD + "!"
    assert "".join(e.delta.content.text for e in of(watch.seen, "event_delta") if e.event_id == of(watch.seen, "agent.message")[0].id) == ODD + "!"
    assert script.requests[0].body["messages"][0]["content"][0]["text"] == ODD
    history = session.history()
    assert texts(of(history, "user.message")[0]) == ODD
    assert of(history, "agent.tool_use")[0].input["command"].startswith("cat <<'END'\na\u2028b")


def test_many_sessions_at_once(chat):
    sessions = [chat(agent={"tools": [TOOLSET]}) for _ in range(12)]

    def work(i):
        watch = sessions[i].turn(f"bash: echo {i} > mine; sync\nread: mine\nsay: mine is {{result}}")
        assert texts(of(watch.seen, "agent.tool_result")[1]).strip() == str(i)
        return watch.seen[-1].stop_reason.type

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(work, range(12))) == ["end_turn"] * 12


def test_many_senders_to_one_session(chat):
    session = chat()

    def send(i):
        return [session.send(f"say: answer {i}.{j}").data[0].id for j in range(5)]

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(8)))
    wait_until(
        "every message to be taken up",
        lambda: session.get().status == "idle" and all(e.processed_at for e in of(session.history(), "user.message")),
    )
    history = session.history()
    listed = [e.id for e in of(history, "user.message")]
    assert sorted(listed) == sorted(i for ids in sent for i in ids)
    # Each sender's messages keep their order, and each got its answer.
    for ids in sent:
        assert [i for i in listed if i in ids] == ids
    said = "".join(texts(e) for e in of(history, "agent.message"))
    assert all(f"answer {i}.{j}" in said for i in range(8) for j in range(5))


def test_updates_of_one_agent_at_once_make_one_version_each(client):
    agent = client.beta.agents.create(name="busy", model="rehearsal")

    def update(i):
        try:
            return client.beta.agents.update(agent.id, version=1, name=f"winner {i}").version
        except anthropic.ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [v for v in pool.map(update, range(8)) if v]
    assert won == [2]
    assert client.beta.agents.retrieve(agent.id).version == 2


def test_a_large_message(chat, script):
    script.say("read it")
    session = chat(script.model)
    large = "0123456789abcdef" * (4 * 65536)
    session.turn(large)
    assert script.requests[0].body["messages"][0]["content"][0]["text"] == large
    assert texts(of(session.history(), "user.message")[0]) == large


def test_endless_tool_rounds_are_stopped(chat, script):
    """500 rounds are the limit (docs/compatibility.md); the session lives on."""
    for _ in range(500):
        script.say(tool("read", {"file_path": "nothing"}))
    session = chat(script.model, agent={"tools": [TOOLSET]})
    watch = session.turn("go round and round")
    assert watch.seen[-1].stop_reason.type == "retries_exhausted"
    (error,) = of(watch.seen, "session.error")
    assert (error.error.type, error.error.retry_status.type) == ("tool_use_limit_reached_error", "exhausted")
    assert len(script.requests) == 500
    script.say("Fresh start.")
    assert session.answer("again") == "Fresh start."


def test_nobody_waits_for_a_slow_reader(chat, script):
    """A client that opens a stream and never reads holds up neither the session nor other clients."""
    script.say(*("word " * 4000 for _ in range(20)))
    session = chat(script.model)
    idle_reader = session.events.stream(session.id, event_deltas=["agent.message"])
    watch = session.turn("talk")
    assert watch.seen[-1].stop_reason.type == "end_turn"
    # When it does read, it gets every event all the same.
    seen = []
    for event in idle_reader:
        seen.append(event)
        if event.type == "session.status_idle":
            break
    assert [e.id for e in seen if e.type not in ("event_start", "event_delta", "user.message")] == [
        e.id for e in session.history() if e.type != "user.message"
    ]


@pytest.mark.parametrize("count", [1001])
def test_too_many_events_in_one_send(chat, count):
    session = chat()
    with pytest.raises(anthropic.BadRequestError, match="events"):
        session.send(*["say: x"] * count)
    assert session.history() == []
