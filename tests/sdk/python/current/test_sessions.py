"""Sessions: forms of the agent, updates, archiving, deleting, refusals."""

import anthropic
import pytest

from conftest import TOOLSET
from harness.chat import last_text, of, user
from harness.upstream import gated_text
from test_agents import CUSTOM


def test_three_forms_of_agent(client, chat, make_agent):
    agent = make_agent(system="base")
    client.beta.agents.update(agent.id, system="newer")
    latest = chat(agent=agent.id).created.agent
    assert (latest.version, latest.system) == (2, "newer")
    pinned = chat(agent={"type": "agent", "id": agent.id, "version": 1}).created.agent
    assert (pinned.version, pinned.system) == (1, "base")
    changed = chat(
        agent={"type": "agent_with_overrides", "id": agent.id, "version": 1, "system": None, "tools": [CUSTOM]}
    ).created.agent
    assert changed.system is None and changed.tools[0].name == "t" and changed.version == 1
    # The agent itself is untouched.
    assert client.beta.agents.retrieve(agent.id, version=1).tools == []


def test_overrides_reach_the_model(chat, script, make_agent):
    agent = make_agent(system="base words")
    script.say("ok")
    session = chat(
        agent={"type": "agent_with_overrides", "id": agent.id, "model": script.model, "system": "other words"}
    )
    session.turn("go")
    asked = script.requests[0].body
    assert asked["model"] == script.model
    assert "other words" in str(asked["system"]) and "base words" not in str(asked["system"])


def test_override_rules(chat, make_agent):
    agent = make_agent()
    with pytest.raises(anthropic.BadRequestError, match="agent_model_required"):
        chat(agent={"type": "agent_with_overrides", "id": agent.id, "model": None})
    with pytest.raises(anthropic.NotFoundError):
        chat(agent={"type": "agent", "id": agent.id, "version": 9})
    with pytest.raises(anthropic.NotFoundError):
        chat(agent="agent_011CZkZAAAAAAAAAAAAAAAAAA")


def test_the_session_keeps_its_snapshot(client, chat, make_agent):
    agent = make_agent(system="then")
    session = chat(agent=agent.id)
    client.beta.agents.update(agent.id, system="now")
    assert session.get().agent.system == "then" and session.get().agent.version == 1


def test_create_and_update_fields(client, chat):
    session = chat(title="first", metadata={"team": "a", "tmp": "x"})
    with session.watch() as watch:
        changed = client.beta.sessions.update(session.id, title="second", metadata={"tmp": None, "new": "1"})
        event = watch.until("session.updated")
    assert changed.title == "second" and changed.metadata == {"team": "a", "new": "1"}
    assert changed.updated_at > session.created.updated_at
    assert event.title == "second" and event.metadata == {"team": "a", "new": "1"}
    assert "agent" not in event.to_dict() and "budget" not in event.to_dict()
    client.beta.sessions.update(session.id, title="second")
    assert len(of(session.history(), "session.updated")) == 1
    assert client.beta.sessions.update(session.id, title=None).title is None


def test_update_of_the_tools(client, chat, script):
    script.say("one")
    script.say("two")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    session.turn("go")
    client.beta.sessions.update(session.id, agent={"tools": [CUSTOM]})
    session.turn("go")
    assert {t["name"] for t in script.requests[1].body["tools"]} == {"t"}
    (event,) = of(session.history(), "session.updated")
    assert event.agent.tools[0].name == "t"


def test_update_of_a_running_session(client, chat, script):
    gate = script.gate()
    script.say(gated_text("working on it", gate), gate)
    session = chat(script.model)
    with session.watch() as watch:
        session.send("go")
        gate.wait_reached()
        assert session.get().status == "running"
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.update(session.id, agent={"tools": [CUSTOM]})
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.archive(session.id)
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.delete(session.id)
        # What does not touch the turn may change.
        assert client.beta.sessions.update(session.id, title="busy").title == "busy"
        gate.open()
        watch.idle()


def test_archive(client, chat):
    session = chat()
    session.turn("say: kept")
    archived = client.beta.sessions.archive(session.id)
    assert archived.status == "terminated" and archived.archived_at is not None
    history = session.history()
    assert history[-1].type == "session.status_terminated"
    assert "kept" in last_text(history)
    with pytest.raises(anthropic.BadRequestError):
        session.send("say: more")
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.update(session.id, title="x")
    assert len(session.history()) == len(history)


def test_delete(client, chat):
    session = chat()
    session.turn("say: gone soon")
    gone = client.beta.sessions.delete(session.id)
    assert (gone.id, gone.type) == (session.id, "session_deleted")
    for call in (client.beta.sessions.retrieve, client.beta.sessions.delete, client.beta.sessions.archive):
        with pytest.raises(anthropic.NotFoundError):
            call(session.id)
    with pytest.raises(anthropic.NotFoundError):
        session.send("say: hello?")


def test_deleting_leaves_the_agent_and_the_uploads(client, chat, make_agent):
    agent = make_agent()
    file = client.files.upload(file=("x.txt", b"x", "text/plain"))
    session = chat(agent=agent.id, resources=[{"type": "file", "file_id": file.id}])
    client.beta.sessions.delete(session.id)
    assert client.beta.agents.retrieve(agent.id).id == agent.id
    assert client.files.retrieve_metadata(file.id).id == file.id


REFUSED = {
    "confirmation": [{"type": "user.tool_confirmation", "tool_use_id": "sevt_x", "result": "allow"}],
    "interrupt": [{"type": "user.interrupt"}],
    "system message": [{"type": "system.message", "content": [{"type": "text", "text": "x"}]}],
    "too many": [user("x")] * 51,
    "redacted block": [{"type": "user.message", "content": [{"type": "redacted"}]}],
    "second is bad": [user("say: fine"), {"type": "user.message", "content": [{"type": "nonsense"}]}],
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.replace(" ", "-"))
def test_bad_initial_events_create_nothing(client, environment, make_agent, case):
    agent = make_agent()
    with pytest.raises(anthropic.BadRequestError, match="initial_events"):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id, initial_events=REFUSED[case])
    assert list(client.beta.sessions.list(agent_id=agent.id)) == []


def test_later_features_are_refused_not_ignored(client, chat, make_agent):
    repository = {"type": "github_repository", "url": "https://github.com/a/b", "authorization_token": "t"}
    with pytest.raises(anthropic.BadRequestError) as caught:
        chat(resources=[repository])
    assert caught.value.error_code == "not_supported_yet"


def test_unknown_environment(chat):
    with pytest.raises(anthropic.NotFoundError):
        chat(environment_id="env_011CZkZAAAAAAAAAAAAAAAAAA")


BAD_EVENTS = {
    "nothing": [],
    "unknown type": [{"type": "user.shout", "content": []}],
    "agent's own": [{"type": "agent.message", "content": [{"type": "text", "text": "x"}]}],
    "no content": [{"type": "user.message", "content": []}],
    "text that is no text": [{"type": "user.message", "content": [{"type": "text", "text": 5}]}],
    "redacted": [{"type": "user.message", "content": [{"type": "redacted"}]}],
    "bad base64": [
        {"type": "user.message", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "***"}}]}
    ],
    "bad media type": [
        {"type": "user.message", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "aGk="}}]}
    ],
    "system message first": [{"type": "system.message", "content": [{"type": "text", "text": "x"}]}, user("say: x")],
    "two system messages": [
        user("say: x"),
        {"type": "system.message", "content": [{"type": "text", "text": "x"}]},
        {"type": "system.message", "content": [{"type": "text", "text": "y"}]},
    ],
    "bad verdict": [{"type": "user.tool_confirmation", "tool_use_id": "sevt_x", "result": "perhaps"}],
    "good then bad": [user("say: x"), {"type": "user.message"}],
}


@pytest.mark.parametrize("case", BAD_EVENTS, ids=lambda c: c.replace(" ", "-"))
def test_bad_events_change_nothing(chat, case):
    session = chat()
    with pytest.raises(anthropic.BadRequestError, match="events"):
        session.send(*BAD_EVENTS[case])
    assert session.history() == []
    assert session.get().status == "idle"


def test_system_messages_need_a_model_that_takes_them(chat):
    session = chat("no-system")
    with pytest.raises(anthropic.BadRequestError, match="model_does_not_support_mid_conversation_system"):
        session.send(user("x"), {"type": "system.message", "content": [{"type": "text", "text": "y"}]})


def test_sandbox_files_survive_idle_turns(chat):
    session = chat(agent={"tools": [TOOLSET]})
    session.turn("write: keep.txt <<< kept")
    watch = session.turn("read: keep.txt")
    assert watch.of("agent.tool_result")[0].content[0].text == "kept"


def test_stats_and_status(chat, script):
    script.say("ok")
    session = chat(script.model)
    assert session.created.stats is not None and session.created.outcome_evaluations == []
    session.turn("go")
    after = session.get()
    assert after.status == "idle"
    assert after.stats.active_seconds is not None and after.stats.duration_seconds >= after.stats.active_seconds
