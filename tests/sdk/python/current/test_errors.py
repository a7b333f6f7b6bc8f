"""Errors as the SDK's typed exceptions, credentials, headers."""

import select
import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from harness.chat import user

UNKNOWN = "011CZkZAAAAAAAAAAAAAAAAAA"


@pytest.fixture(scope="module")
def raw(server):
    """HTTP without the SDK, for what the SDK cannot be made to send."""
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        yield http


def headers(server, **more):
    return {"x-api-key": server.key, "anthropic-version": "2023-06-01"} | more


def envelope(response, status, kind):
    body = response.json()
    assert response.status_code == status, body
    assert body["type"] == "error" and body["error"]["type"] == kind, body
    assert body["error"]["message"]
    assert body["request_id"] == response.headers["request-id"]
    assert response.headers["content-type"].startswith("application/json")
    return body["error"]


def test_both_key_headers(server, raw):
    for auth in ({"x-api-key": server.key}, {"authorization": f"Bearer {server.key}"}):
        got = raw.get("/v1/agents", headers=auth | {"anthropic-version": "2023-06-01"})
        assert got.status_code == 200


@pytest.mark.parametrize("key", ["", "wrong", "sk-fh-" + "0" * 40, "x" * 5000])
def test_wrong_keys(server, key):
    client = Anthropic(api_key=key or "-", base_url=server.url, max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        client.beta.agents.list()
    assert caught.value.type == "authentication_error" and caught.value.request_id
    assert caught.value.workspace_id is None


def test_no_key(raw):
    envelope(raw.get("/v1/agents", headers={"anthropic-version": "2023-06-01"}), 401, "authentication_error")
    envelope(raw.get("/v1/sessions/sesn_x", headers={"anthropic-version": "2023-06-01"}), 401, "authentication_error")


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_known_versions(server, raw, version):
    got = raw.get("/v1/agents?beta=true", headers=headers(server, **{"anthropic-version": version}))
    assert got.status_code == 200


def test_missing_and_unknown_versions(server, raw):
    error = envelope(raw.get("/v1/agents", headers={"x-api-key": server.key}), 400, "invalid_request_error")
    assert "anthropic-version" in error["message"]
    bad = headers(server, **{"anthropic-version": "yesterday"})
    assert "anthropic-version" in envelope(raw.get("/v1/agents", headers=bad), 400, "invalid_request_error")["message"]


def test_beta_headers_are_tolerated(client):
    assert client.beta.agents.list(betas=["managed-agents-2026-04-01", "something-2030-01-01"]).data is not None
    assert client.beta.agents.list(extra_headers={"anthropic-beta": ""}).data is not None


def test_ids_in_the_headers(client):
    response = client.beta.agents.with_raw_response.list()
    assert response.request_id.startswith("req_") and response.workspace_id.startswith("wrkspc_")
    agent = client.beta.agents.create(name="h", model="rehearsal")
    assert agent._request_id.startswith("req_")
    assert client.beta.agents.retrieve(agent.id, workspace_id=response.workspace_id).id == agent.id
    with pytest.raises((anthropic.PermissionDeniedError, anthropic.NotFoundError)):
        client.beta.agents.retrieve(agent.id, workspace_id=f"wrkspc_{UNKNOWN}")


NOT_FOUND = {
    "agent": lambda c: c.beta.agents.retrieve(f"agent_{UNKNOWN}"),
    "agent versions": lambda c: c.beta.agents.versions.list(f"agent_{UNKNOWN}"),
    "environment": lambda c: c.beta.environments.retrieve(f"env_{UNKNOWN}"),
    "session": lambda c: c.beta.sessions.retrieve(f"sesn_{UNKNOWN}"),
    "session update": lambda c: c.beta.sessions.update(f"sesn_{UNKNOWN}", title="x"),
    "events": lambda c: c.beta.sessions.events.list(f"sesn_{UNKNOWN}"),
    "send": lambda c: c.beta.sessions.events.send(f"sesn_{UNKNOWN}", events=[user("x")]),
    "threads": lambda c: c.beta.sessions.threads.list(f"sesn_{UNKNOWN}"),
    "resources": lambda c: c.beta.sessions.resources.list(f"sesn_{UNKNOWN}"),
    "file": lambda c: c.files.retrieve_metadata(f"file_{UNKNOWN}"),
    "wrong prefix": lambda c: c.beta.agents.retrieve(f"env_{UNKNOWN}"),
    "path trick": lambda c: c.beta.agents.retrieve("../environments"),
    "odd characters": lambda c: c.beta.agents.retrieve("agent_\u00e4 %00/../x"),
    "long id": lambda c: c.beta.agents.retrieve("agent_" + "x" * 3000),
}


@pytest.mark.parametrize("case", NOT_FOUND, ids=lambda c: c.replace(" ", "-"))
def test_unknown_ids(client, case):
    with pytest.raises(anthropic.NotFoundError) as caught:
        NOT_FOUND[case](client)
    error = caught.value
    assert error.type == "not_found_error" and error.request_id.startswith("req_") and error.api_message


def test_unknown_paths_and_methods(server, raw):
    envelope(raw.get("/v1/nothing/here", headers=headers(server)), 404, "not_found_error")
    envelope(raw.get("/", headers=headers(server)), 404, "not_found_error")
    got = raw.put("/v1/agents", headers=headers(server), json={})
    assert got.status_code == 405 and got.json()["type"] == "error"
    assert got.headers["request-id"]


BODIES = {
    "empty": b"",
    "not json": b"{not json",
    "cut off": b'{"name": "x"',
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "invalid utf-8": b'{"name": "\xff\xfe", "model": "rehearsal"}',
    "deep": b'{"name": "x", "model": "rehearsal", "metadata": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "wrong types": b'{"name": 5, "model": []}',
    "missing fields": b"{}",
    "a key twice": b'{"name": "a", "name": "b", "model": "rehearsal"}',
    "a lone surrogate": b'{"name": "\\ud800", "model": "rehearsal"}',
    "huge number": b'{"name": "x", "model": "rehearsal", "version": 1e999}',
}


@pytest.mark.parametrize("case", BODIES, ids=lambda c: c.replace(" ", "-"))
@pytest.mark.parametrize("path", ["/v1/agents", "/v1/environments", "/v1/sessions", "/v1/messages"])
def test_malformed_bodies(server, raw, client, path, case):
    before = len(list(client.beta.agents.list(limit=100)))
    got = raw.post(path, headers=headers(server, **{"content-type": "application/json"}), content=BODIES[case])
    if case in ("a key twice",) and got.status_code == 200:
        pytest.fail("a body that says two things was taken")
    envelope(got, 400, "invalid_request_error")
    assert len(list(client.beta.agents.list(limit=100))) == before


def test_wrong_types_are_named(client):
    with pytest.raises(anthropic.BadRequestError, match=r"tools\.0\.configs\.0\.enabled"):
        client.beta.agents.create(
            name="x",
            model="rehearsal",
            tools=[{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": "yes"}]}],
        )


def test_charsets_and_encodings(server, raw):
    body = b'{"name": "x", "model": "rehearsal"}'
    odd = raw.post("/v1/agents", headers=headers(server, **{"content-type": "application/json; charset=utf-7"}), content=body)
    assert envelope(odd, 400, "invalid_request_error")["details"]["error_code"] == "unsupported_charset"
    odd = raw.post("/v1/agents", headers=headers(server, **{"content-encoding": "br"}), content=body)
    assert envelope(odd, 400, "invalid_request_error")["details"]["error_code"] == "request_body_encoding_unsupported"
    for kind in ("application/json; charset=UTF-8", "application/json;charset=us-ascii", "text/plain"):
        assert raw.post("/v1/agents", headers=headers(server, **{"content-type": kind}), content=body).status_code == 200


EARLY = {
    "wrong key": ("/v1/agents", {"x-api-key": "wrong"}),
    "no version": ("/v1/agents", {"anthropic-version": None}),
    "odd encoding": ("/v1/agents", {"content-encoding": "br"}),
    "odd charset": ("/v1/agents", {"content-type": "application/json; charset=utf-7"}),
    "unknown path": ("/v1/nothing", {}),
    "no multipart": ("/v1/files", {}),
    "unknown id": (f"/v1/agents/agent_{UNKNOWN}/archive", {}),
}


@pytest.mark.parametrize("case", EARLY, ids=lambda c: c.replace(" ", "-"))
def test_early_refusals_do_not_break_the_next_request(server, case):
    """Clients send head and body apart. An answer that comes before the body must leave the connection
    usable or say that it does not; else the next request on it fails, now and then."""
    path, changes = EARLY[case]
    body = b'{"name": "x", "model": "rehearsal"}'
    head = {k: v for k, v in (headers(server, host="test") | {"content-length": len(body)} | changes).items() if v is not None}
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in head.items()) + b"\r\n")
        # A server may answer now, or wait for the body: both are fine, so this is no timing assertion.
        early = bool(select.select([wire], [], [], 0.5)[0])
        if not early:
            wire.sendall(body)
        answer = HTTPResponse(wire, method="POST")
        answer.begin()
        answer.read()
        assert 400 <= answer.status < 500
        if answer.getheader("connection", "").lower() == "close":
            return
        if early:
            wire.sendall(body)
        wire.sendall(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n")
        after = HTTPResponse(wire, method="GET")
        after.begin()
        assert after.status == 200


def test_bodiless_posts_take_any_content_type(server, raw, client):
    for extra in ({}, {"content-type": "application/json"}, {"content-type": "text/x-odd"}):
        agent = client.beta.agents.create(name="a", model="rehearsal")
        got = raw.post(f"/v1/agents/{agent.id}/archive", headers=headers(server, **extra))
        assert got.status_code == 200 and got.json()["archived_at"]


def test_too_large(server, raw, client):
    body = b'{"name": "' + b"x" * (33 * 1024 * 1024) + b'", "model": "rehearsal"}'
    got = raw.post("/v1/agents", headers=headers(server), content=body)
    envelope(got, 413, "request_too_large")
    assert client.beta.agents.list(limit=1).data is not None


def test_retried_statuses_are_really_transient(chat, client):
    """Nothing that a retry cannot mend invites one."""
    session = chat()
    session.turn("say: x")
    client.beta.sessions.archive(session.id)
    with pytest.raises(anthropic.APIStatusError) as caught:
        session.send("say: y")
    error = caught.value
    assert error.status_code == 400 or error.response.headers.get("x-should-retry") == "false"


def test_health_needs_no_key(raw):
    assert raw.get("/healthz").status_code == 200
    assert raw.get("/readyz").status_code == 200


def test_other_workspaces_see_nothing(server, client, raw, chat):
    """A key of another workspace gets the same 404 as for an id that does not exist."""
    created = raw.post("/v1/freehold/workspaces", headers=headers(server), json={"name": "other"})
    assert created.status_code == 200, created.text
    key = raw.post(
        "/v1/freehold/keys", headers=headers(server), json={"name": "k", "workspace_id": created.json()["id"]}
    )
    assert key.status_code == 200, key.text
    stranger = Anthropic(
        api_key=key.json()["key"], base_url=server.url, max_retries=0, _strict_response_validation=True
    )
    session = chat()
    session.turn("say: private")
    agent, env = session.created.agent.id, session.created.environment_id
    file = client.files.upload(file=("p.txt", b"private", "text/plain"))
    for call in (
        lambda: stranger.beta.agents.retrieve(agent),
        lambda: stranger.beta.environments.retrieve(env),
        lambda: stranger.beta.sessions.retrieve(session.id),
        lambda: stranger.beta.sessions.events.list(session.id),
        lambda: stranger.beta.sessions.events.stream(session.id),
        lambda: stranger.beta.sessions.events.send(session.id, events=[user("say: x")]),
        lambda: stranger.beta.sessions.delete(session.id),
        lambda: stranger.beta.sessions.create(agent=agent, environment_id=env),
        lambda: stranger.files.retrieve_metadata(file.id),
        lambda: stranger.files.delete(file.id),
        lambda: stranger.beta.agents.archive(agent),
    ):
        with pytest.raises(anthropic.NotFoundError):
            call()
    assert list(stranger.beta.agents.list()) == [] and list(stranger.beta.sessions.list()) == []
    assert list(stranger.files.list(ids=[file.id])) == []
    assert list(stranger.beta.files.list(scope_id=session.id)) == []
    assert session.get().status == "idle"


def test_revoked_keys_end_at_once(server, raw):
    made = raw.post("/v1/freehold/keys", headers=headers(server), json={"name": "short-lived"}).json()
    stranger = Anthropic(api_key=made["key"], base_url=server.url, max_retries=0)
    stranger.beta.agents.list()
    revoked = raw.post(f"/v1/freehold/keys/{made['id']}/revoke", headers=headers(server))
    assert revoked.status_code == 200, revoked.text
    with pytest.raises(anthropic.AuthenticationError):
        stranger.beta.agents.list()
