"""Agents that use real MCP servers."""

import json

import httpx2
import pytest

from conftest import TOOLSET
from harness.chat import last_text, of, texts
from harness.mcp import Fast, TokenEndpoint, free_port
from harness.upstream import tool
from harness.watch import wait_until
from test_tools import tool_result_of, verdict


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    server = Fast(tmp_path_factory.mktemp("mcp") / "log")
    yield server
    server.stop()


def using(url, policy="always_allow", configs=(), name="demo"):
    toolset = {"type": "mcp_toolset", "mcp_server_name": name, "configs": list(configs)}
    if policy:
        toolset["default_config"] = {"permission_policy": {"type": policy}}
    return {"mcp_servers": [{"type": "url", "name": name, "url": url}], "tools": [toolset]}


def test_a_call_and_its_result(chat, script, fast):
    script.say(tool("mcp__demo__add", {"a": 2, "b": 3}))
    script.say("It is 5.")
    session = chat(script.model, agent=using(fast.url))
    seen = session.turn("add").seen
    (use,) = of(seen, "agent.mcp_tool_use")
    assert (use.mcp_server_name, use.name, use.input) == ("demo", "add", {"a": 2, "b": 3})
    assert use.evaluated_permission == "allow"
    (result,) = of(seen, "agent.mcp_tool_result")
    assert (result.mcp_tool_use_id, texts(result), result.is_error) == (use.id, "5", False)
    assert last_text(seen) == "It is 5."
    shown = {t["name"]: t for t in script.requests[0].body["tools"]}
    assert shown["mcp__demo__add"]["description"] == "Adds two numbers."
    assert set(shown["mcp__demo__add"]["input_schema"]["properties"]) == {"a", "b"}
    (sent,) = tool_result_of(script.requests[1])
    assert sent["content"] == [{"type": "text", "text": "5"}]


def test_what_tools_give(chat, fast):
    session = chat(agent=using(fast.url))
    script = 'tool: mcp__demo__picture {}\ntool: mcp__demo__fail {}\ntool: mcp__demo__add {"a": "x"}\nsay: done'
    picture, failed, wrong = of(session.turn(script).seen, "agent.mcp_tool_result")
    (image,) = picture.content
    assert (image.type, image.source.media_type) == ("image", "image/png")
    assert failed.is_error and "it went wrong" in texts(failed)
    assert wrong.is_error


def test_long_output_goes_into_a_file(chat, fast):
    agent = using(fast.url)
    agent["tools"].append(TOOLSET)
    session = chat(agent=agent)
    (result,) = of(session.turn('tool: mcp__demo__long {"chars": 150000}').seen, "agent.mcp_tool_result")
    assert len(texts(result)) < 20_000 and "/workspace/.tool_outputs/" in texts(result)


def test_confirmation_is_the_default(chat, fast):
    session = chat(agent=using(fast.url, policy=None))
    before = fast.control("seen")["calls"]
    with session.watch() as watch:
        session.send('parallel:\ntool: mcp__demo__add {"a": 1, "b": 1}\ntool: mcp__demo__note {"text": "x"}\nend:\nsay: done')
        reason = watch.idle().stop_reason
        assert reason.type == "requires_action"
        add, note = of(watch.seen, "agent.mcp_tool_use")
        assert (add.evaluated_permission, reason.event_ids) == ("ask", [add.id, note.id])
        assert fast.control("seen")["calls"] == before
        session.send(verdict(add.id, "allow"), verdict(note.id, "deny", deny_message="not now"))
        watch.idle()
    results = {r.mcp_tool_use_id: r for r in of(session.history(), "agent.mcp_tool_result")}
    assert texts(results[add.id]) == "2"
    assert results[note.id].is_error and "not now" in texts(results[note.id])
    assert fast.control("seen")["calls"] == before + 1


def test_a_disabled_tool_is_neither_shown_nor_called(chat, script, fast):
    script.say(tool("mcp__demo__note", {"text": "x"}))
    script.say("I cannot.")
    agent = using(fast.url, configs=[{"name": "note", "enabled": False}])
    session = chat(script.model, agent=agent)
    before = fast.control("seen")["calls"]
    seen = session.turn("note it").seen
    assert "mcp__demo__note" not in {t["name"] for t in script.requests[0].body["tools"]}
    (result,) = of(seen, "agent.tool_result")
    assert result.is_error and "not available" in texts(result)
    assert fast.control("seen")["calls"] == before


def test_a_server_that_is_not_there_heals(chat, tmp_path):
    port = free_port()
    session = chat(agent=using(f"http://127.0.0.1:{port}/mcp"))
    seen = session.turn("say: hello").seen
    (error,) = of(seen, "session.error")
    assert error.error.type == "mcp_connection_failed_error"
    assert error.error.mcp_server_name == "demo"
    assert error.error.retry_status.type == "exhausted"
    assert "hello" in last_text(seen)
    server = Fast(tmp_path / "log", port=port)
    try:
        seen = session.turn('tool: mcp__demo__add {"a": 1, "b": 2}').seen
        assert not of(seen, "session.error")
        assert texts(of(seen, "agent.mcp_tool_result")[0]) == "3"
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["https://127.0.0.2:1/mcp", "https://169.254.169.254/mcp", "http://mcp.example.com/mcp"])
def test_addresses_that_are_not_allowed_are_not_dialled(chat, url):
    session = chat(agent=using(url))
    (error,) = of(session.turn("say: hello").seen, "session.error")
    assert error.error.type == "mcp_connection_failed_error"


def test_limited_networking_holds_for_servers(client, chat, fast):
    for allow, works in ((False, False), (True, True)):
        config = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": allow}}
        environment = client.beta.environments.create(name=f"limited {allow}", config=config)
        session = chat(agent=using(fast.url), environment_id=environment.id)
        seen = session.turn('say: hello').seen
        assert bool(of(seen, "session.error")) != works


def credential(client, url, **auth):
    vault = client.beta.vaults.create(display_name="v")
    auth = {"mcp_server_url": url} | auth
    return vault, client.beta.vaults.credentials.create(vault.id, auth=auth)


def silent(session, server_log, *secrets):
    """None of the secrets is anywhere a client or an operator looks."""
    said = json.dumps([e.to_dict() for e in session.history()], default=str) + server_log.read_text()
    for secret in secrets:
        assert secret not in said


def test_a_token_of_a_vault(client, server, chat, tmp_path):
    token = "static-token-of-the-test"
    guarded, other = Fast(tmp_path / "a", tokens=[token]), Fast(tmp_path / "b")
    try:
        session = chat(agent=using(guarded.url))
        (error,) = of(session.turn("say: hello").seen, "session.error")
        assert error.error.type == "mcp_authentication_failed_error"
        vault, made = credential(client, guarded.url + "/", type="static_bearer", token=token)
        agent = using(guarded.url)
        more = using(other.url, name="other")
        agent = {k: agent[k] + more[k] for k in agent}
        session = chat(agent=agent, vault_ids=[vault.id])
        seen = session.turn("tool: mcp__demo__whoami {}\ntool: mcp__other__whoami {}").seen
        assert not of(seen, "session.error")
        mine, others = of(seen, "agent.mcp_tool_result")
        # The server says its own credential back; neither the model nor a client gets to see it.
        assert (texts(mine), texts(others)) == ("Bearer [redacted]", "nobody")
        assert other.control("seen")["authorizations"] == [""]
        client.beta.vaults.credentials.archive(made.id, vault_id=vault.id)
        (error,) = of(session.turn("say: hello").seen, "session.error")
        assert error.error.type == "mcp_authentication_failed_error"
        silent(session, server.log, token)
    finally:
        guarded.stop()
        other.stop()


@pytest.fixture
def oauth(client, tmp_path):
    """A server behind OAuth, a token endpoint, and a credential whose access token has gone bad."""
    endpoint = TokenEndpoint("refresh-0-of-the-test")
    guarded = Fast(tmp_path / "log", tokens=["access-1-of-the-test", "access-2-of-the-test"])
    refresh = {
        "token_endpoint": endpoint.url,
        "client_id": "client",
        "refresh_token": "refresh-0-of-the-test",
        "scope": "a b",
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "secret-of-the-client"},
    }
    vault, made = credential(client, guarded.url, type="mcp_oauth", access_token="access-0-of-the-test", refresh=refresh)
    yield endpoint, guarded, vault, made
    endpoint.stop()
    guarded.stop()


def test_a_refused_token_is_refreshed_once_for_all(server, chat, oauth):
    endpoint, guarded, vault, _ = oauth
    sessions = [chat(agent=using(guarded.url), vault_ids=[vault.id]) for _ in range(6)]
    watches = [s.watch() for s in sessions]
    for session in sessions:
        session.send('tool: mcp__demo__add {"a": 1, "b": 2}')
    for session, watch in zip(sessions, watches):
        watch.idle()
        watch.close()
        assert [texts(r) for r in of(watch.seen, "agent.mcp_tool_result")] == ["3"]
        assert not of(watch.seen, "session.error")
    (asked,) = endpoint.calls
    assert asked["grant_type"] == "refresh_token" and asked["scope"] == "a b"
    assert asked["authorization"].startswith("Basic ") and "client_secret" not in asked
    silent(sessions[0], server.log, "access-0-of-the-test", "access-1-of-the-test", "refresh-0-of-the-test", "refresh-1-of-the-test")


def test_a_grant_that_is_gone_is_told_once(client, chat, oauth):
    endpoint, guarded, vault, made = oauth
    endpoint.good = "another"
    session = chat(agent=using(guarded.url), vault_ids=[vault.id])
    for _ in range(2):
        (error,) = of(session.turn("say: hello").seen, "session.error")
        assert error.error.type == "mcp_authentication_failed_error"
    assert len(endpoint.calls) == 1
    auth = {"type": "mcp_oauth", "refresh": {"refresh_token": "another"}}
    client.beta.vaults.credentials.update(made.id, vault_id=vault.id, auth=auth)
    assert not of(session.turn("say: hello").seen, "session.error")


def test_validation(client, oauth):
    endpoint, guarded, vault, made = oauth
    validate = lambda: client.beta.vaults.credentials.mcp_oauth_validate(made.id, vault_id=vault.id)  # noqa: E731
    endpoint.answer = (503, b"busy with refresh-0-of-the-test", {"content-type": "text/plain"})
    found = validate()
    assert (found.status, found.has_refresh_token) == ("unknown", True)
    assert found.mcp_probe.http_response.status_code == 401
    assert "access-0" not in found.mcp_probe.http_response.body
    assert (found.refresh.status, found.refresh.http_response.status_code) == ("failed", 503)
    assert found.refresh.http_response.body == "busy with [redacted]"
    endpoint.answer = (307, b"", {"location": "http://127.0.0.1:9/token"})
    assert validate().status == "unknown"
    endpoint.answer = None
    found = validate()
    assert (found.status, found.refresh.status, found.mcp_probe) == ("valid", "succeeded", None)
    found = validate()
    assert (found.status, found.refresh) == ("valid", None)
    guarded.stop()
    found = validate()
    assert (found.status, found.mcp_probe.http_response) == ("unknown", None)


@pytest.fixture
def operator(server):
    """Our own endpoints over the catalogue."""
    with httpx2.Client(base_url=server.url + "/v1/freehold/mcp", headers={"x-api-key": server.key}) as http:
        yield http


def decide(operator, path, **body):
    answer = operator.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def served(operator, url):
    (known,) = operator.get("/servers", params={"url": url}).json()["data"]
    return f"/servers/{known['id']}"


def audited(operator, url, **query):
    """Entries are written off the hot path: those of a session are there a moment after its events."""
    found = []

    def look():
        found[:] = operator.get("/audit", params={"server_url": url} | query).json()["data"]
        return found

    wait_until("the audit", look)
    return found


def as_another(client, chat, url, model="rehearsal"):
    """A session with another credential, which no list of the server was kept for."""
    vault, _ = credential(client, url, type="static_bearer", token="token-of-another")
    return chat(model, agent=using(url), vault_ids=[vault.id])


def test_a_call_is_bound_to_the_definition_that_was_shown(client, chat, operator, tmp_path):
    fast = Fast(tmp_path / "log")
    session = chat(agent=using(fast.url, policy="always_ask"))
    with session.watch() as watch:
        session.send('tool: mcp__demo__note {"text": "x"}\nsay: done')
        watch.idle()
        (use,) = of(watch.seen, "agent.mcp_tool_use")
        fast.stop()
        fast = Fast(tmp_path / "log", port=fast.port, variant="changed")
        try:
            as_another(client, chat, fast.url).turn("say: I look at the tools")
            session.send(verdict(use.id, "allow"))
            watch.idle()
            (result,) = of(watch.seen, "agent.mcp_tool_result")
            assert result.is_error and "changed" in texts(result)
            assert fast.control("seen")["calls"] == 0
        finally:
            fast.stop()
    (allowed,) = audited(operator, fast.url, action="confirm")
    assert (allowed["tool"], allowed["outcome"], allowed["detail"]["owner"]) == ("note", "allowed", session.id)


def test_what_an_operator_has_not_approved_is_not_shown(client, chat, script, operator, tmp_path):
    fast = Fast(tmp_path / "log")
    try:
        chat(agent=using(fast.url)).turn("say: hello")
        at = served(operator, fast.url)
        decide(operator, f"{at}/pin")
        fast.stop()
        fast = Fast(tmp_path / "log", port=fast.port, variant="changed")
        for text in ("hidden", "shown"):
            script.say(text)
        session = as_another(client, chat, fast.url, script.model)
        session.turn("go")
        shown = json.dumps(script.requests[0].body)
        assert "mcp__demo__add" in shown and "HOSTILE" not in shown and "mcp__demo__note" not in shown
        tool_at = f"{at}/tools/note"
        new = operator.get(tool_at).json()
        assert (new["state"], new["offered"]) == ("changed", False)
        decide(operator, f"{tool_at}/approve", fingerprint=new["fingerprint"])
        session.turn("again")
        assert "mcp__demo__note" in {t["name"] for t in script.requests[1].body["tools"]}
    finally:
        fast.stop()


def test_an_operator_can_demand_confirmation(chat, operator, tmp_path):
    fast = Fast(tmp_path / "log")
    try:
        session = chat(agent=using(fast.url))
        session.turn('tool: mcp__demo__note {"text": "x"}\nsay: done')
        assert fast.control("seen")["calls"] == 1
        decide(operator, f"{served(operator, fast.url)}/policy", confirm_classes=["write"])
        with session.watch() as watch:
            session.send('tool: mcp__demo__note {"text": "x"}\nsay: done')
            assert watch.idle().stop_reason.type == "requires_action"
            (use,) = of(watch.seen, "agent.mcp_tool_use")
            assert (use.evaluated_permission, use.evaluation.type) == ("ask", "always_ask")
            session.send(verdict(use.id, "deny"))
            watch.idle()
        assert fast.control("seen")["calls"] == 1
        (denied,) = audited(operator, fast.url, action="confirm")
        assert denied["outcome"] == "denied"
        (call,) = audited(operator, fast.url, action="tools/call")
        assert (call["outcome"], call["detail"]["owner"]) == ("ok", session.id)
        assert len(call["detail"]["arguments_sha256"]) == 64 and call["detail"]["request_id"]
        assert '"x"' not in json.dumps(call)
    finally:
        fast.stop()
