"""A server of the test's own, stopped and killed under running sessions."""

import anthropic
import pytest
from anthropic import Anthropic

from conftest import CONFIG, TOOLSET
from harness.chat import Chat, last_text, of, texts
from harness.server import Server
from harness.upstream import gated_text, tool
from harness.watch import wait_until


@pytest.fixture
def own(tmp_path, upstream):
    server = Server(tmp_path, upstream.url, CONFIG.format(upstream=upstream.url))
    yield server
    if server.process.poll() is None:
        server.kill()
    assert not server.complaints(), server.complaints()


def connect(server):
    return Anthropic(api_key=server.key, base_url=server.url, max_retries=0, _strict_response_validation=True)


def start(server, model, **fields):
    client = connect(server)
    agent = client.beta.agents.create(name="d", model=model, tools=[TOOLSET])
    env = client.beta.environments.create(name="d")
    return Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=env.id, **fields))


def again(server, session):
    client = connect(server)
    return Chat(client, client.beta.sessions.retrieve(session.id))


def finished(session):
    return wait_until("the session to rest", lambda: session.get().status == "idle" and session.history())


def test_history_and_sandbox_files_survive_a_restart(own):
    session = start(own, "rehearsal")
    session.turn("write: note.txt <<< remember me\nwrite: /mnt/session/outputs/out.txt <<< saved")
    before = [e.to_dict() for e in session.history()]
    assert own.stop() == 0
    own.start()
    session = again(own, session)
    assert [e.to_dict() for e in session.history()] == before
    watch = session.turn("read: note.txt")
    assert texts(of(watch.seen, "agent.tool_result")[0]) == "remember me"
    files = wait_until("the output", lambda: list(session.client.beta.files.list(scope_id=session.id)))
    assert session.client.beta.files.download(files[0].id).read() == b"saved"
    session.check()


def test_killed_while_the_model_speaks(own, script):
    gate = script.gate()
    script.say(gated_text("an answer that never ends", gate), gate)
    script.say("The answer, whole.")
    session = start(own, script.model)
    session.send("go")
    gate.wait_reached()
    own.kill()
    gate.open()
    own.start()
    session = again(own, session)
    history = finished(session)
    assert [texts(e) for e in of(history, "agent.message")] == ["The answer, whole."]
    assert history[-1].stop_reason.type == "end_turn"
    assert [texts(e) for e in of(history, "user.message")] == ["go"]
    session.check()


def test_killed_while_a_tool_runs(own, script):
    """The call may have happened: it is reported as interrupted, not silently made again."""
    script.say(tool("bash", {"command": "echo once >> /workspace/count; sleep 600"}))
    script.say(tool("bash", {"command": "cat /workspace/count"}))
    script.say("done")
    session = start(own, script.model)
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        own.kill()
    own.start()
    session = again(own, session)
    history = finished(session)
    results = {e.tool_use_id: e for e in of(history, "agent.tool_result")}
    assert results[use.id].is_error
    assert texts(list(results.values())[-1]).count("once") <= 1
    assert last_text(history) == "done"
    session.check()


def test_killed_while_waiting_for_a_person(own, script):
    script.say(tool("bash", {"command": "echo confirmed"}))
    script.say("done")
    client = connect(own)
    ask = TOOLSET | {"default_config": {"permission_policy": {"type": "always_ask"}}}
    agent = client.beta.agents.create(name="d", model=script.model, tools=[ask])
    env = client.beta.environments.create(name="d")
    session = Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=env.id))
    watch = session.turn("go")
    use = of(watch.seen, "agent.tool_use")[0]
    before = [e.id for e in session.history()]
    own.kill()
    own.start()
    session = again(own, session)
    assert [e.id for e in session.history()] == before
    assert session.get().status == "idle"
    with session.watch() as watch:
        session.send({"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"})
        assert watch.idle().stop_reason.type == "end_turn"
    assert "confirmed" in texts(of(watch.seen, "agent.tool_result")[0])
    session.check()


def test_accepted_messages_are_never_lost(own, script):
    gate = script.gate()
    script.say(gated_text("busy with the first", gate), gate)
    for i in range(4):
        script.say(f"answer {i}")
    session = start(own, script.model)
    session.send("first")
    gate.wait_reached()
    accepted = [session.send(f"queued {i}").data[0].id for i in range(3)]
    own.kill()
    gate.open()
    own.start()
    session = again(own, session)
    wait_until("all answers", lambda: session.get().status == "idle" and all(e.processed_at for e in of(session.history(), "user.message")))
    messages = of(session.history(), "user.message")
    assert [e.id for e in messages][1:] == accepted
    assert [texts(e) for e in messages] == ["first", "queued 0", "queued 1", "queued 2"]
    session.check()
    script.replies.clear()  # How many turns four messages take is the engine's business.


def test_stopping_ends_open_streams(own):
    session = start(own, "rehearsal")
    watch = session.watch()
    assert own.stop() == 0
    try:
        watch.end()
    except anthropic.APIError:
        pass  # Either a clean end or an error frame; not a hang.
    assert watch.ended


def test_keys_and_agents_survive(own):
    session = start(own, "rehearsal")
    own.kill()
    own.start()
    client = connect(own)
    assert client.beta.agents.retrieve(session.created.agent.id).name == "d"
    assert client.beta.environments.retrieve(session.created.environment_id).name == "d"


def test_without_an_upstream_unknown_models_are_refused_at_agent_creation(tmp_path):
    server = Server(tmp_path, None, "")
    try:
        client = connect(server)
        with pytest.raises(anthropic.BadRequestError, match="claude-opus-5-5"):
            client.beta.agents.create(name="x", model="claude-opus-5-5")
        assert client.beta.agents.create(name="x", model="rehearsal").model.id == "rehearsal"
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="claude-opus-5-5", max_tokens=5, messages=[{"role": "user", "content": "x"}])
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("claude-opus-5-5")
    finally:
        assert server.stop() == 0
