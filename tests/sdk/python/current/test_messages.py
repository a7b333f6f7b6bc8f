"""`/v1/messages`, `count_tokens` and the model list: a gateway to the configured provider."""

import anthropic
import pytest

from harness.upstream import Break, text, thinking, tool


def ask(client, model, **more):
    return client.messages.create(
        **({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]} | more)
    )


def test_create_passes_through(client, script):
    script.say(thinking("hm", "c2ln"), "Hello.", tool("look", {"a": 1}))
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    message = ask(client, script.model, tools=tools, metadata={"user_id": "u"}, system="be kind")
    assert [b.type for b in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use" and message.usage.input_tokens == 100
    sent = script.last
    assert sent.headers["x-api-key"] == "upstream-key"
    assert "authorization" not in sent.headers
    assert sent.body["metadata"] == {"user_id": "u"} and sent.body["system"] == "be kind"
    assert sent.body["tools"] == tools and sent.body["max_tokens"] == 64


def test_unknown_fields_reach_the_provider(client, script):
    script.say("ok")
    ask(
        client,
        script.model,
        extra_body={"brand_new_field": {"x": [1, 2.5, None]}},
        extra_headers={"anthropic-beta": "brand-new-2030-01-01"},
    )
    assert script.last.body["brand_new_field"] == {"x": [1, 2.5, None]}
    assert "brand-new-2030-01-01" in script.last.headers["anthropic-beta"]


def test_stream(client, script):
    script.say(thinking("hm", "c2ln"), text("Streaming works fine.", 4))
    kinds = []
    with client.messages.stream(
        model=script.model, max_tokens=64, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        for event in stream:
            kinds.append(event.type)
        final = stream.get_final_message()
    assert kinds.count("text") == 4
    assert final.content[1].text == "Streaming works fine." and final.content[0].signature == "c2ln"
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 20


def test_stream_of_the_rehearsal_model(client):
    with client.messages.stream(
        model="rehearsal", max_tokens=200, messages=[{"role": "user", "content": "say: over the gateway"}]
    ) as stream:
        pieces = list(stream.text_stream)
    assert len(pieces) > 1 and "over the gateway" in "".join(pieces)


def test_create_with_the_rehearsal_model(client):
    message = ask(client, "rehearsal", max_tokens=200, messages=[{"role": "user", "content": "say: plain"}])
    assert "plain" in message.content[0].text and message.model == "rehearsal"
    assert message.usage.input_tokens > 0


def test_count_tokens(client, script):
    counted = client.messages.count_tokens(model=script.model, messages=[{"role": "user", "content": "hi"}])
    assert counted.input_tokens == 42
    assert "max_tokens" not in script.last.body
    assert client.messages.count_tokens(model="rehearsal", messages=[{"role": "user", "content": "x" * 400}]).input_tokens >= 100


@pytest.mark.parametrize(
    ("status", "kind", "exception"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (413, "request_too_large", anthropic.RequestTooLargeError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors_keep_their_kind(client, script, status, kind, exception, stream):
    script.fail(status, kind, "from upstream", retry_after="7")
    with pytest.raises(exception) as caught:
        ask(client, script.model, stream=stream)
    assert caught.value.status_code == status and caught.value.type == kind
    assert "from upstream" in caught.value.api_message
    assert caught.value.request_id.startswith("req_")
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"


def test_the_providers_key_is_never_shown(client, script):
    script.fail(401, "authentication_error", "invalid x-api-key upstream-key")
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client, script.model)
    assert "upstream-key" not in str(caught.value.body)


def test_error_in_the_middle_of_a_stream(client, script):
    script.say("half of", Break("overloaded_error", "too much"))
    with pytest.raises(anthropic.APIStatusError) as caught:
        for _ in ask(client, script.model, stream=True):
            pass
    assert caught.value.type == "overloaded_error"


def test_missing_fields_are_refused_here(client):
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.post("/v1/messages", body={"model": "rehearsal", "max_tokens": 5}, cast_to=object)
    with pytest.raises(anthropic.BadRequestError, match="model"):
        client.post("/v1/messages", body={"messages": [], "max_tokens": 5}, cast_to=object)


def test_models(client):
    model = client.models.retrieve("rehearsal")
    assert model.id == "rehearsal" and "not a language model" in model.display_name
    assert model.lifecycle == "active"
    assert client.beta.models.retrieve("priced").id == "priced"
