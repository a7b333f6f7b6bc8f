"""What a session does when its model fails, refuses, or never stops."""

import pytest

from conftest import TOOLSET
from harness.chat import last_text, of, texts
from harness.upstream import Break, Cut, tool


def errors(session):
    return [(e.error.type, e.error.retry_status.type) for e in of(session.history(), "session.error")]


@pytest.mark.parametrize(
    ("status", "kind", "named"),
    [
        (529, "overloaded_error", "model_overloaded_error"),
        (429, "rate_limit_error", "model_rate_limited_error"),
        (500, "api_error", "model_request_failed_error"),
    ],
)
def test_transient_failures_are_retried(chat, script, status, kind, named):
    script.fail(status, kind).fail(status, kind).say("Third time lucky.")
    session = chat(script.model)
    watch = session.turn("go")
    assert watch.seen[-1].stop_reason.type == "end_turn"
    assert last_text(watch.seen) == "Third time lucky."
    found = errors(session)
    assert found and set(found) <= {(named, "retrying")}
    assert of(watch.seen, "session.status_rescheduled") and of(watch.seen, "session.thread_status_rescheduled")
    assert len(script.requests) == 3
    assert all(r.body["messages"] == script.requests[0].body["messages"] for r in script.requests)


def test_retries_run_out(chat, script):
    for _ in range(3):
        script.fail(529, "overloaded_error")
    session = chat(script.model)
    watch = session.turn("go")
    assert watch.seen[-1].stop_reason.type == "retries_exhausted"
    assert errors(session)[-1] == ("model_overloaded_error", "exhausted")
    assert session.get().status == "idle"
    # The session lives: the next message starts afresh.
    script.say("Back again.")
    assert session.answer("once more") == "Back again."


def test_queued_messages_are_flushed_when_retries_run_out(chat, script):
    gate = script.gate()
    script.say(gate, Break())
    script.fail(529, "overloaded_error").fail(529, "overloaded_error")
    session = chat(script.model)
    with session.watch() as watch:
        session.send("one")
        gate.wait_reached()
        session.send("two")
        gate.open()
        assert watch.idle().stop_reason.type == "retries_exhausted"
    assert session.get().status == "idle"
    assert len(script.requests) == 3


def test_a_request_the_provider_refuses_is_not_retried(chat, script):
    script.fail(400, "invalid_request_error", "messages: too strange")
    session = chat(script.model)
    watch = session.turn("go")
    assert watch.seen[-1].stop_reason.type == "retries_exhausted"
    assert errors(session) == [("model_request_failed_error", "exhausted")]
    assert len(script.requests) == 1


def test_billing(chat, script):
    script.fail(402, "billing_error", "no credit")
    session = chat(script.model)
    session.turn("go")
    assert errors(session) == [("billing_error", "exhausted")]


@pytest.mark.parametrize("how", [Break("overloaded_error", "busy"), Cut()], ids=["error-frame", "cut-off"])
def test_a_stream_that_breaks_is_asked_again(chat, script, how):
    script.say("half an answ", how)
    script.say("A whole answer.")
    session = chat(script.model)
    with session.watch("agent.message") as watch:
        session.send("go")
        watch.idle()
    assert [texts(e) for e in of(session.history(), "agent.message")] == ["A whole answer."]
    ends = of(session.history(), "span.model_request_end")
    assert [bool(e.is_error) for e in ends] == [True, False]
    assert errors(session)[0][1] == "retrying"


def test_interrupt_while_waiting_for_a_retry(chat, script):
    """A session between two attempts can be stopped and redirected."""
    script.fail(529, "overloaded_error", retry_after="600")
    script.say("New plan.")
    session = chat(script.model)
    with session.watch() as watch:
        session.send("go")
        watch.until("session.status_rescheduled")
        assert session.get().status == "rescheduling"
        session.send({"type": "user.interrupt"}, "another plan")
        watch.until("agent.message")
        assert watch.idle().stop_reason.type == "end_turn"
    assert last_text(watch.seen) == "New plan."


def test_refusal(chat, script):
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    script.say("I will not.", stop_reason="refusal", stop_details=details)
    session = chat(script.model)
    watch = session.turn("something bad")
    idle = watch.seen[-1]
    assert idle.stop_reason.type == "refusal"
    assert (idle.stop_details.category, idle.stop_details.explanation) == ("cyber", "No.")
    script.say("Sure.")
    assert session.answer("something good") == "Sure."


def test_an_answer_cut_by_max_tokens_ends_the_turn(chat, script):
    script.say("It goes on and", stop_reason="max_tokens")
    session = chat(script.model)
    watch = session.turn("write a lot")
    assert watch.seen[-1].stop_reason.type == "end_turn"
    assert last_text(watch.seen) == "It goes on and"


def test_broken_tool_input_is_answered_not_run(chat, script):
    script.say(tool("bash", {"comand": "echo typo"}))
    script.say("I mistyped.")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    watch = session.turn("go")
    (result,) = of(watch.seen, "agent.tool_result")
    assert result.is_error and texts(result).startswith("Invalid arguments for function bash")


def test_unknown_tool_is_answered_not_run(chat, script):
    script.say(tool("teleport", {"to": "Mars"}))
    script.say("No such thing.")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    watch = session.turn("go")
    assert watch.seen[-1].stop_reason.type == "end_turn"
    told = [b for b in script.requests[1].body["messages"][-1]["content"] if b["type"] == "tool_result"]
    assert len(told) == 1 and told[0]["is_error"] is True


def test_context_is_compacted_when_the_window_fills(chat, upstream):
    """`small` holds 20,000 tokens; the second question comes when most of them are used."""
    script = upstream.script("small")
    full = {"input_tokens": 19_000, "output_tokens": 500, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    script.say("A long story. " * 50, usage=full)
    script.say("Summary: they told a long story.")
    script.say("Yes, I remember.")
    session = chat("small")
    session.turn("tell a long story " + "word " * 2000)
    watch = session.turn("do you remember?")
    assert of(watch.seen, "agent.thread_context_compacted")
    assert last_text(watch.seen) == "Yes, I remember."
    last = str(script.requests[-1].body["messages"])
    assert "they told a long story" in last and "do you remember?" in last
    assert "word word word" not in last
    # Nothing of the history is lost by it.
    assert "A long story." in texts(of(session.history(), "agent.message")[0])
    assert not script.replies and not script.unexpected


def test_the_conversation_grows_append_only_with_cache_markers(chat, script):
    """Each request repeats the one before it, so that the provider's prompt cache works."""
    for i in range(3):
        script.say(f"answer {i}")
    session = chat(script.model, agent={"system": "constant", "tools": [TOOLSET]})
    for i in range(3):
        session.turn(f"question {i}")
    bodies = [r.body for r in script.requests]
    for earlier, later in zip(bodies, bodies[1:]):
        assert plain(later["messages"])[: len(earlier["messages"])] == plain(earlier["messages"])
        assert later["tools"] == earlier["tools"] and plain(later["system"]) == plain(earlier["system"])
    assert all("cache_control" in str(b) for b in bodies)


def plain(value):
    """The same without cache markers, and one text block as its text."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "cache_control"}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value
