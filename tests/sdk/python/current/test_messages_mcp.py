"""`/v1/messages` with real MCP servers: the official client's `mcp_servers`."""

import anthropic
import pytest

from harness.mcp import Fast
from harness.upstream import thinking, tool

BETA = "mcp-client-2025-11-20"
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    server = Fast(tmp_path_factory.mktemp("mcp") / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    server = Fast(tmp_path_factory.mktemp("mcp") / "log", tokens=[TOKEN])
    yield server
    server.stop()


def using(server, say, model="rehearsal", token=None, **toolset):
    declared = {"type": "url", "name": "demo", "url": server.url}
    if token:
        declared["authorization_token"] = token
    return {
        "model": model,
        "max_tokens": 500,
        "betas": [BETA],
        "messages": [{"role": "user", "content": say}],
        "mcp_servers": [declared],
        "tools": [{"type": "mcp_toolset", "mcp_server_name": "demo", **toolset}],
    }


def of(message, kind):
    return [b for b in message.content if b.type == kind]


def test_a_call(client, fast):
    message = client.beta.messages.create(**using(fast, 'tool: demo_add {"a": 2, "b": 3}\nsay: it is {result}'))
    assert type(message.content[0]).__name__ == "BetaMCPToolListingBlock"
    assert {t.name for t in message.content[0].tools} >= {"add", "note", "picture"}
    (use,), (result,) = of(message, "mcp_tool_use"), of(message, "mcp_tool_result")
    assert (use.server_name, use.name, use.input) == ("demo", "add", {"a": 2, "b": 3})
    assert (result.tool_use_id, result.is_error, result.content[0].text) == (use.id, False, "5")
    assert message.content[-1].text == "it is 5" and message.stop_reason == "end_turn"


def test_a_stream(client, fast):
    script = 'parallel:\ntool: demo_add {"a": 2, "b": 3}\ntool: demo_fail\nend:\nsay: done'
    with client.beta.messages.stream(**using(fast, script)) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("message_start") == kinds.count("message_stop") == 1
    add, fail = of(final, "mcp_tool_use")
    assert add.input == {"a": 2, "b": 3} and fail.input == {}
    good, bad = of(final, "mcp_tool_result")
    assert (good.tool_use_id, good.content[0].text) == (add.id, "5")
    assert bad.tool_use_id == fail.id and bad.is_error and "it went wrong" in bad.content[0].text
    assert final.content[-1].text == "done"


def test_the_conversation_goes_on(client, script, fast):
    script.say(thinking("hm", "c2ln"), tool("demo_note", {"text": "x"}))
    script.say("Noted.")
    script.say("Bye.")
    asked = using(fast, "note x", script.model)
    message = client.beta.messages.create(**asked)
    assert message.usage.input_tokens == 200 and message.content[-1].text == "Noted."
    assert TOKEN not in str(script.requests[0].body)
    asked["messages"] += [{"role": "assistant", "content": message.content}, {"role": "user", "content": "bye"}]
    again = client.beta.messages.create(**asked)
    # The listing of the first answer was sent back, so there is no other.
    assert [b.type for b in again.content] == ["text"]
    first, second, third = (r.body["messages"] for r in script.requests)
    assert second[:1] == first and third[:3] == second
    assert second[1]["content"][0]["signature"] == "c2ln"
    assert second[2]["content"][0]["content"] == [{"type": "text", "text": "noted: x"}]


def test_pictures_are_shown_to_the_model(client, script, fast):
    script.say(tool("demo_picture", {}))
    script.say("Small.")
    message = client.beta.messages.create(**using(fast, "look", script.model))
    (shown,) = script.requests[1].body["messages"][2]["content"]
    assert shown["content"][0]["source"]["media_type"] == "image/png"
    (told,) = of(message, "mcp_tool_result")
    assert told.content[0].text == "(content of type image/png, shown to the model)"


def test_allow_lists(client, script, fast):
    script.say("ok")
    only = {"default_config": {"enabled": False}, "configs": {"add": {"enabled": True}, "unknown": {"enabled": True}}}
    client.beta.messages.create(**using(fast, "hi", script.model, **only))
    assert [t["name"] for t in script.last.body["tools"]] == ["demo_add"]


def test_a_token(client, guarded):
    message = client.beta.messages.create(**using(guarded, "tool: demo_whoami\nsay: {result}", token=TOKEN))
    (result,) = of(message, "mcp_tool_result")
    assert result.content[0].text == "Bearer [redacted]"
    assert TOKEN not in message.to_json()
    with pytest.raises(anthropic.BadRequestError, match="Authentication error.*'demo'") as refused:
        client.beta.messages.create(**using(guarded, "hi", token="some-other-token"))
    assert "some-other-token" not in str(refused.value.body)


def test_without_the_beta(client, fast):
    asked = using(fast, "hi") | {"betas": ["other-2025-01-01"]}
    with pytest.raises(anthropic.BadRequestError, match="mcp_servers: Extra inputs are not permitted"):
        client.beta.messages.create(**asked)


def test_tokens_are_counted_with_the_tools(client, fast):
    asked = using(fast, "hi")
    del asked["max_tokens"]
    few = client.beta.messages.count_tokens(**using_none(asked)).input_tokens
    assert few < client.beta.messages.count_tokens(**asked).input_tokens


def using_none(asked):
    toolset = asked["tools"][0] | {"default_config": {"enabled": False}}
    return asked | {"tools": [toolset]}
