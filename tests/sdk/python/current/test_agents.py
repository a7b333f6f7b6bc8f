"""Agents: validation, versions, optimistic locking, archiving."""

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from conftest import TOOLSET

CUSTOM = {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}


def test_defaults_are_resolved(client):
    agent = client.beta.agents.create(name="plain", model="rehearsal")
    assert agent.version == 1 and agent.type == "agent"
    assert agent.model.id == "rehearsal" and agent.model.effort.type and agent.model.speed == "standard"
    assert agent.tools == [] and agent.skills == [] and agent.mcp_servers == [] and agent.metadata == {}
    assert agent.execution_identity.type == "service_account"
    assert agent.created_at == agent.updated_at
    assert client.beta.agents.retrieve(agent.id) == agent


def test_toolset_is_resolved(client):
    tools = [
        TOOLSET
        | {
            "default_config": {"enabled": False},
            "configs": [
                {"name": "bash", "enabled": True, "permission_policy": {"type": "always_ask"}},
                {"name": "web_fetch", "enabled": True, "allowed_domains": ["example.com"], "max_content_tokens": 500},
                {"name": "read", "permission_policy": {"type": "auto"}},
            ],
        },
        CUSTOM,
    ]
    agent = client.beta.agents.create(name="tools", model="rehearsal", tools=tools)
    toolset, custom = agent.tools
    assert toolset.default_config.enabled is False
    assert toolset.default_config.permission_policy.type == "always_allow"
    bash, fetch, read = toolset.configs
    assert (bash.type, bash.enabled, bash.permission_policy.type) == ("bash", True, "always_ask")
    assert fetch.allowed_domains == ["example.com"] and fetch.permission_policy.type == "always_allow"
    assert (read.enabled, read.permission_policy.type) == (False, "auto")
    assert custom.name == "t" and custom.input_schema.type == "object"


def test_versions(client):
    agent = client.beta.agents.create(name="one", model="rehearsal", system="first", description="d")
    second = client.beta.agents.update(agent.id, version=1, system="second", metadata={"a": "1", "b": "2"})
    assert second.version == 2 and second.name == "one" and second.system == "second"
    assert second.updated_at > agent.updated_at
    third = client.beta.agents.update(agent.id, description=None, metadata={"a": None, "c": "3"})
    assert third.description is None and third.metadata == {"b": "2", "c": "3"}
    assert client.beta.agents.retrieve(agent.id, version=1).system == "first"
    assert client.beta.agents.retrieve(agent.id).version == 3
    with pytest.raises(anthropic.NotFoundError):
        client.beta.agents.retrieve(agent.id, version=4)


def test_an_update_that_changes_nothing_makes_no_version(client):
    agent = client.beta.agents.create(name="same", model="rehearsal", tools=[TOOLSET])
    assert client.beta.agents.update(agent.id, version=1, name="same", tools=[TOOLSET]).version == 1
    assert client.beta.agents.update(agent.id, system=None).version == 1


def test_stale_version_is_a_conflict_tried_once(server):
    """The SDK retries a 409 unless it is told not to: the answer cannot change, so it is told."""
    attempts = []
    counting = anthropic.DefaultHttpxClient(event_hooks={"request": [lambda r: attempts.append(r)]})
    client = Anthropic(api_key=server.key, base_url=server.url, http_client=counting)
    agent = client.beta.agents.create(name="locked", model="rehearsal")
    client.beta.agents.update(agent.id, version=1, name="moved on")
    attempts.clear()
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.agents.update(agent.id, version=1, name="too late")
    assert caught.value.type == "conflict_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(attempts) == 1
    # Also if the patch would change nothing.
    with pytest.raises(anthropic.ConflictError):
        client.beta.agents.update(agent.id, version=1, name="moved on")
    assert isinstance(attempts[0], httpx2.Request)


def test_model_replacement_keeps_effort_only_for_the_same_model(client, script):
    agent = client.beta.agents.create(name="m", model={"id": script.model, "effort": "low"})
    assert agent.model.effort.type == "low"
    same = client.beta.agents.update(agent.id, model={"id": script.model})
    assert same.model.effort.type == "low" and same.version == 1
    other = client.beta.agents.update(agent.id, model="rehearsal")
    assert other.model.id == "rehearsal" and other.version == 2


def test_archive(client, environment):
    agent = client.beta.agents.create(name="old", model="rehearsal")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    archived = client.beta.agents.archive(agent.id)
    assert archived.archived_at is not None
    assert client.beta.agents.archive(agent.id).archived_at == archived.archived_at
    with pytest.raises(anthropic.BadRequestError):
        client.beta.agents.update(agent.id, name="new")
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    # Sessions that exist go on.
    sent = client.beta.sessions.events.send(
        session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": "say: still here"}]}]
    )
    assert sent.data[0].id


def test_unmapped_model_is_taken_by_the_default_upstream(client, script):
    assert client.beta.agents.create(name="any", model=script.model).model.id == script.model


BAD = {
    "no name": ({"name": ""}, "name"),
    "long name": ({"name": "x" * 257}, "name"),
    "long system": ({"system": "x" * 100_001}, "system"),
    "long description": ({"description": "x" * 2049}, "description"),
    "unknown tool": ({"tools": [{"type": "no_such_tool"}]}, "tools.0"),
    "unknown builtin": ({"tools": [TOOLSET | {"configs": [{"name": "fly"}]}]}, "tools.0"),
    "builtin twice": ({"tools": [TOOLSET | {"configs": [{"name": "bash"}, {"name": "bash"}]}]}, "tools.0"),
    "custom twice": ({"tools": [CUSTOM, CUSTOM]}, "tools.1"),
    "custom named like a builtin": ({"tools": [CUSTOM | {"name": "bash"}]}, "tools.0"),
    "custom with a bad name": ({"tools": [CUSTOM | {"name": "a b"}]}, "tools.0"),
    "custom with a reserved prefix": ({"tools": [CUSTOM | {"name": "mcp__x"}]}, "tools.0"),
    "custom without description": ({"tools": [CUSTOM | {"description": ""}]}, "tools.0"),
    "schema that is no object": ({"tools": [CUSTOM | {"input_schema": {"type": "string"}}]}, "tools.0"),
    "schema with a reference": (
        {"tools": [CUSTOM | {"input_schema": {"type": "object", "properties": {"a": {"$ref": "#/x"}}}}]},
        "tools.0",
    ),
    "schema with a top-level union": ({"tools": [CUSTOM | {"input_schema": {"type": "object", "anyOf": []}}]}, "tools.0"),
    "both domain lists": (
        {"tools": [TOOLSET | {"configs": [{"name": "web_fetch", "allowed_domains": ["a.com"], "blocked_domains": ["b.com"]}]}]},
        "Only one of allowed_domains or blocked_domains may be set.",
    ),
    "empty domain list": (
        {"tools": [TOOLSET | {"configs": [{"name": "web_fetch", "allowed_domains": []}]}]},
        "allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
    ),
    "address as domain": (
        {"tools": [TOOLSET | {"configs": [{"name": "web_fetch", "allowed_domains": ["127.0.0.1"]}]}]},
        "allowed_domains.0: IP addresses are not supported",
    ),
    "mcp server without toolset": ({"mcp_servers": [{"type": "url", "name": "gh", "url": "https://mcp.example.com"}]}, "mcp_servers"),
    "mcp toolset without server": ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "gh"}]}, "tools.0"),
    "too much metadata": ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
    "long metadata value": ({"metadata": {"k": "x" * 513}}, "metadata"),
    "bad effort": ({"model": {"id": "rehearsal", "effort": "heroic"}}, "model"),
    "unknown speed": ({"model": {"id": "rehearsal", "speed": "ludicrous"}}, "model"),
}


@pytest.mark.parametrize("case", BAD, ids=lambda c: c.replace(" ", "-"))
def test_bad_agents_are_refused_by_name(client, case):
    fields, named = BAD[case]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(**({"name": "bad", "model": "rehearsal"} | fields))
    assert named in caught.value.api_message, caught.value.api_message
    assert caught.value.type == "invalid_request_error"


def test_unknown_fields_are_refused(client):
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.beta.agents.create(name="x", model="rehearsal", extra_body={"max_tokens": 5})


def test_update_of_an_unknown_agent(client):
    with pytest.raises(anthropic.NotFoundError):
        client.beta.agents.update("agent_011CZkZAAAAAAAAAAAAAAAAAA", name="x")


def test_later_features_are_stored_and_refused_at_session_start(client, environment):
    """Never silently ignored: the agent keeps what it was given, the session says what is missing."""
    other = client.beta.agents.create(name="helper", model="rehearsal")
    stored = client.beta.agents.create(
        name="team",
        model="rehearsal",
        tools=[{"type": "mcp_toolset", "mcp_server_name": "gh"}],
        mcp_servers=[{"type": "url", "name": "gh", "url": "https://mcp.example.com/"}],
    )
    assert stored.mcp_servers[0].name == "gh"
    assert stored.tools[0].default_config.permission_policy.type == "always_ask"
    team = client.beta.agents.create(
        name="team", model="rehearsal", multiagent={"type": "coordinator", "agents": [other.id, {"type": "self"}]}
    )
    assert [a.id for a in team.multiagent.agents] == [other.id, team.id]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(agent=team.id, environment_id=environment.id)
    assert caught.value.error_code == "not_supported_yet"
    session = client.beta.sessions.create(agent=stored.id, environment_id=environment.id)
    assert [s.name for s in session.agent.mcp_servers] == ["gh"]


def test_multiagent_20261001(client):
    other = client.beta.agents.create(name="helper", model="rehearsal")
    agent = client.beta.agents.create(
        name="lead",
        model="rehearsal",
        multiagent={
            "type": "multiagent_20261001",
            "subagents": {"type": "enabled", "predefined_agents": [other.id]},
            "workflows": {"type": "disabled"},
        },
    )
    many = agent.multiagent
    assert many.subagents.predefined_agents[0].version == 1
    assert many.workflows.type == "disabled" and many.advisor.type == "disabled"
    merged = client.beta.agents.update(
        agent.id, multiagent={"type": "multiagent_20261001", "subagents": {"type": "enabled", "predefined_agents": []}}
    ).multiagent
    assert merged.subagents.predefined_agents == [] and merged.workflows.type == "disabled"
    assert client.beta.agents.update(agent.id, multiagent=None).multiagent is None
