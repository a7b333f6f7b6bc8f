"""Interrupting a session, at every point, and redirecting it."""

from conftest import TOOLSET
from harness.chat import last_text, of, texts
from harness.upstream import gated_text, tool
from test_tools import ASK, WEATHER, result, tool_result_of

INTERRUPT = {"type": "user.interrupt"}
CLOSED = "Tool execution was interrupted before completion. Please retry."


def test_mid_stream_and_redirect(chat, script):
    gate = script.gate()
    script.say(gated_text("I will go on and on", gate), gate)
    script.say("New direction.")
    session = chat(script.model)
    with session.watch("agent.message") as watch:
        session.send("go on")
        gate.wait_reached()
        watch.until("event_delta")
        session.send(INTERRUPT, "stop, do this")
        watch.until(lambda e: e.type == "agent.message" and texts(e) == "New direction.")
        gate.open()
        assert watch.idle().stop_reason.type == "end_turn"
    history = session.history()
    # What was cut off is no message, and the request that made it is closed.
    assert [texts(e) for e in of(history, "agent.message")] == ["New direction."]
    assert len(of(history, "span.model_request_start")) == len(of(history, "span.model_request_end")) == 2
    (interrupt,) = of(history, "user.interrupt")
    assert interrupt.processed_at is not None
    first_idle = next(i for i, e in enumerate(history) if e.type == "session.status_idle")
    if of(history, "session.status_idle")[0].id != history[-1].id:
        assert history[first_idle].stop_reason.type == "end_turn"
    # The new message reaches the model after the old one.
    asked = [m for m in script.requests[1].body["messages"] if m["role"] == "user"]
    assert "stop, do this" in str(asked[-1])


def test_interrupt_alone_ends_the_turn(chat, script):
    gate = script.gate()
    script.say(gated_text("never finished", gate), gate)
    session = chat(script.model)
    with session.watch("agent.message") as watch:
        session.send("go")
        watch.until("event_delta")
        session.send(INTERRUPT)
        assert watch.idle().stop_reason.type == "end_turn"
        gate.open()
    assert session.get().status == "idle"
    assert not of(session.history(), "agent.message")


def test_mid_tool(chat, script):
    script.say(tool("bash", {"command": "echo started; sleep 600"}))
    script.say("Stopped.")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    with session.watch() as watch:
        session.send("run something long")
        use = watch.until("agent.tool_use")
        session.send(INTERRUPT)
        assert watch.idle().stop_reason.type == "end_turn"
        closed = of(session.history(), "agent.tool_result")
        assert [c.tool_use_id for c in closed] == [use.id]
        assert closed[0].is_error
        session.send("what now?")
        watch.until("agent.message")
        watch.idle()
    told = [r for m in script.requests[1].body["messages"] if isinstance(m["content"], list) for r in m["content"] if r["type"] == "tool_result"]
    assert len(told) == 1 and told[0]["is_error"] is True


def test_the_shell_works_after_an_interrupted_command(chat, script):
    script.say(tool("bash", {"command": "sleep 600"}))
    script.say(tool("bash", {"command": "echo alive"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    with session.watch() as watch:
        session.send("run")
        watch.until("agent.tool_use")
        session.send(INTERRUPT)
        watch.idle()
        session.send("again")
        watch.idle()
    assert "alive" in texts(of(session.history(), "agent.tool_result")[-1])


def test_while_waiting_for_a_confirmation(chat, script):
    script.say(tool("bash", {"command": "echo never"}))
    script.say("Something else then.")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        assert watch.idle().stop_reason.type == "requires_action"
        session.send(INTERRUPT)
        assert watch.idle().stop_reason.type == "end_turn"
        # Ended without asking the model again.
        assert len(script.requests) == 1
        session.send("do something else")
        assert watch.idle().stop_reason.type == "end_turn"
    (closed,) = [r for r in of(session.history(), "agent.tool_result") if r.tool_use_id == use.id]
    assert closed.is_error and texts(closed) == CLOSED
    assert last_text(session.history()) == "Something else then."


def test_while_waiting_for_a_custom_tool(chat, script):
    script.say(tool("get_weather", {"city": "Oslo"}))
    script.say("Never mind the weather.")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        use = watch.until("agent.custom_tool_use")
        watch.idle()
        session.send(INTERRUPT, "never mind")
        watch.until("agent.message")
        assert watch.idle().stop_reason.type == "end_turn"
    # The model was told that the call was closed.
    told = [r for m in script.requests[1].body["messages"] if isinstance(m["content"], list) for r in m["content"] if r["type"] == "tool_result"]
    assert len(told) == 1 and CLOSED in str(told[0]["content"])
    # An answer that comes too late changes nothing.
    before = len(session.history())
    try:
        session.send(result(use.id, "too late"))
    except Exception as error:
        assert getattr(error, "status_code", None) == 400
    else:
        raise AssertionError("an answer to a closed call was accepted")
    assert len(session.history()) == before


def test_on_an_idle_session(chat):
    session = chat()
    session.turn("say: hi")
    # A client that waits for the idle after its interrupt always gets one.
    watch = session.turn(INTERRUPT)
    assert watch.seen[-1].stop_reason.type == "end_turn"
    assert session.get().status == "idle"
    assert not of(watch.seen, "span.model_request_start")
    assert "again" in session.answer("say: again")


def test_jumps_the_queue(chat, script):
    gate = script.gate()
    script.say(gated_text("first answer", gate), gate)
    script.say("second answer")
    session = chat(script.model)
    with session.watch("agent.message") as watch:
        session.send("one")
        watch.until("event_delta")
        session.send("two")
        session.send(INTERRUPT)
        watch.until(lambda e: e.type == "agent.message" and texts(e) == "second answer")
        gate.open()
        watch.idle()
    assert [texts(e) for e in of(session.history(), "agent.message")] == ["second answer"]
