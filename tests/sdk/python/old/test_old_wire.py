"""The main job with an SDK from before the wire form changed."""

import anthropic
import httpx
import pytest

from harness.watch import Watch

TOOLSET = {"type": "agent_toolset_20260401"}


@pytest.fixture(scope="module")
def session(client, environment):
    agent = client.beta.agents.create(name="old", model="rehearsal", tools=[TOOLSET])
    return client.beta.sessions.create(agent=agent.id, environment_id=environment, title="old")


def say(client, session, text):
    return client.beta.sessions.events.send(
        session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": text}]}]
    )


def test_it_really_is_the_old_form(server):
    sent = []
    client = anthropic.Anthropic(
        api_key=server.key,
        base_url=server.url,
        http_client=anthropic.DefaultHttpxClient(event_hooks={"request": [sent.append]}),
    )
    client.beta.agents.list()
    request: httpx.Request = sent[0]
    assert request.headers["x-api-key"] == server.key and "authorization" not in request.headers
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.url.params["beta"] == "true"


def test_quickstart_with_a_stream(client, session):
    seen = []
    with client.beta.sessions.events.stream(session.id) as stream:
        say(client, session, "bash: echo $((6 * 7))\nsay: The answer is {result}")
        for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break
    types = [e.type for e in seen]
    # Every type this SDK knows comes through its whitelist of event names.
    for kind in (
        "user.message",
        "session.status_running",
        "span.model_request_start",
        "span.model_request_end",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "session.status_idle",
    ):
        assert kind in types
    assert seen[-1].stop_reason.type == "end_turn"
    message = [e for e in seen if e.type == "agent.message"][-1]
    assert "42" in message.content[0].text


def test_history_and_paging(client, session):
    everything = [e.id for e in client.beta.sessions.events.list(session.id)]
    assert everything == [e.id for e in client.beta.sessions.events.list(session.id, limit=3)]
    assert len(everything) > 3
    assert session.id in [s.id for s in client.beta.sessions.list(limit=1)]


def test_odd_separators_do_not_break_the_stream(client, session):
    """This SDK splits lines where Python does, which is at more than line feeds."""
    with client.beta.sessions.events.stream(session.id) as stream:
        say(client, session, "say: a\u2028b\u2029c\u0085d")
        for event in stream:
            if event.type == "agent.message":
                said = event.content[0].text
            if event.type == "session.status_idle":
                break
    assert "a\u2028b\u2029c\u0085d" in said


def test_custom_tool(client, session):
    tools = [{"type": "custom", "name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}]
    agent = client.beta.agents.create(name="old tools", model="rehearsal", tools=tools)
    own = client.beta.sessions.create(agent=agent.id, environment_id=session.environment_id)
    watch = Watch(lambda: client.beta.sessions.events.stream(own.id))
    say(client, own, "tool: look {}\nsay: seen {result}")
    use = watch.until("agent.custom_tool_use")
    assert watch.idle().stop_reason.event_ids == [use.id]
    client.beta.sessions.events.send(
        own.id,
        events=[
            {
                "type": "user.custom_tool_result",
                "custom_tool_use_id": use.id,
                "content": [{"type": "text", "text": "a hill"}],
            }
        ],
    )
    assert "a hill" in watch.until("agent.message").content[0].text
    assert watch.idle().stop_reason.type == "end_turn"
    watch.close()


def test_files(client, session):
    uploaded = client.beta.files.upload(file=("a.txt", b"abc", "text/plain"))
    assert uploaded.size_bytes == 3
    assert client.beta.files.retrieve_metadata(uploaded.id).filename == "a.txt"
    assert client.beta.files.delete(uploaded.id).id == uploaded.id


def test_messages_and_models(client):
    message = client.messages.create(
        model="rehearsal", max_tokens=100, messages=[{"role": "user", "content": "say: old but fine"}]
    )
    assert "old but fine" in message.content[0].text
    assert "rehearsal" in [m.id for m in client.models.list()]


def test_typed_errors(client, server):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.beta.agents.retrieve("agent_011CZkZAAAAAAAAAAAAAAAAAA")
    assert caught.value.request_id.startswith("req_")
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(api_key="wrong", base_url=server.url, max_retries=0).beta.agents.list()
    with pytest.raises(anthropic.BadRequestError):
        client.beta.agents.create(name="", model="rehearsal")


def test_old_list_forms(client, session):
    """`after_id` paging of this SDK's files list is answered without error."""
    assert client.beta.files.list(limit=1).data is not None


def test_archive_and_delete(client, session):
    assert client.beta.sessions.archive(session.id).archived_at is not None
    assert client.beta.sessions.delete(session.id).id == session.id
