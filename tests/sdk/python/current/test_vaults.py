"""Vaults and their credentials: secrets go in and never come out; sessions use them."""

import json

import anthropic
import pytest

from harness.chat import of, texts

SECRETS = ("s3cret-access", "s3cret-refresh", "s3cret-client", "s3cret-bearer", "s3cret-value", "s3cret-new")


@pytest.fixture
def vault(client):
    return client.beta.vaults.create(display_name="Dana", metadata={"uid": "77"})


def variable(name="ACME_KEY", **more):
    return {
        "type": "environment_variable",
        "secret_name": name,
        "secret_value": "s3cret-value",
        "networking": {"type": "limited", "allowed_hosts": ["api.acme.test"]},
    } | more


OAUTH = {
    "type": "mcp_oauth",
    "mcp_server_url": "https://mcp.example.com/mcp",
    "access_token": "s3cret-access",
    "expires_at": "2100-01-01T00:00:00Z",
    "refresh": {
        "token_endpoint": "https://id.example.com/token",
        "client_id": "abc",
        "refresh_token": "s3cret-refresh",
        "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "s3cret-client"},
    },
}
BEARER = {"type": "static_bearer", "mcp_server_url": "https://mcp2.example.com/", "token": "s3cret-bearer"}


def silent(answer):
    text = answer.to_json()
    assert not any(secret in text for secret in SECRETS), text
    return answer


def test_a_vault(client, vault):
    assert vault.type == "vault" and vault.id.startswith("vlt_") and vault.archived_at is None
    assert client.beta.vaults.retrieve(vault.id) == vault
    changed = client.beta.vaults.update(vault.id, metadata={"uid": None, "a": "b"})
    assert (changed.display_name, changed.metadata) == ("Dana", {"a": "b"})
    assert client.beta.vaults.update(vault.id, display_name="Eve").display_name == "Eve"
    archived = client.beta.vaults.archive(vault.id)
    assert archived.archived_at is not None
    assert vault.id not in [v.id for v in client.beta.vaults.list(limit=2)]
    assert vault.id in [v.id for v in client.beta.vaults.list(limit=2, include_archived=True)]
    with pytest.raises(anthropic.BadRequestError):
        client.beta.vaults.update(vault.id, display_name="x")
    gone = client.beta.vaults.delete(vault.id)
    assert (gone.id, gone.type) == (vault.id, "vault_deleted")
    with pytest.raises(anthropic.NotFoundError):
        client.beta.vaults.retrieve(vault.id)


def test_every_kind_of_credential(client, vault):
    credentials = client.beta.vaults.credentials
    made = [
        silent(credentials.create(vault.id, auth=auth, display_name="n", metadata={"k": "v"}))
        for auth in (OAUTH, BEARER, variable())
    ]
    oauth, bearer, env = (c.auth for c in made)
    assert oauth.refresh.client_id == "abc" and oauth.refresh.token_endpoint_auth.type == "client_secret_post"
    assert oauth.refresh.scope is None and oauth.expires_at.year == 2100
    assert bearer.mcp_server_url == "https://mcp2.example.com/"
    assert env.secret_name == "ACME_KEY" and env.networking.allowed_hosts == ["api.acme.test"]
    assert (env.injection_location.header, env.injection_location.body) == (True, True)
    for one in made:
        assert one.type == "vault_credential" and one.vault_id == vault.id
        assert silent(credentials.retrieve(one.id, vault_id=vault.id)) == one
    assert [silent(c).id for c in credentials.list(vault.id, limit=2)] == [c.id for c in reversed(made)]
    for one, change in zip(
        made,
        (
            {"type": "mcp_oauth", "access_token": "s3cret-new", "refresh": {"scope": "read"}},
            {"type": "static_bearer", "token": "s3cret-new"},
            {"type": "environment_variable", "secret_value": "s3cret-new", "injection_location": {"body": False}},
        ),
    ):
        changed = silent(credentials.update(one.id, vault_id=vault.id, auth=change))
        assert changed.updated_at > one.updated_at and changed.display_name == "n"
    assert credentials.retrieve(made[0].id, vault_id=vault.id).auth.refresh.scope == "read"
    location = credentials.retrieve(made[2].id, vault_id=vault.id).auth.injection_location
    assert (location.header, location.body) == (True, False)
    archived = credentials.archive(made[1].id, vault_id=vault.id)
    assert archived.archived_at is not None
    gone = credentials.delete(made[1].id, vault_id=vault.id)
    assert (gone.id, gone.type) == (made[1].id, "vault_credential_deleted")
    # Nobody answers at the example's address, which says nothing of the grant.
    assert credentials.mcp_oauth_validate(made[0].id, vault_id=vault.id).status == "unknown"
    client.beta.vaults.archive(vault.id)
    assert credentials.retrieve(made[0].id, vault_id=vault.id).archived_at is not None


def test_rules(client, vault):
    create = client.beta.vaults.credentials.create
    first = create(vault.id, auth=variable())
    with pytest.raises(anthropic.ConflictError) as caught:
        create(vault.id, auth=variable())
    assert caught.value.response.headers["x-should-retry"] == "false"
    for auth, place in (
        (variable("B", injection_location={"header": False}), "injection_location"),
        (variable("B", injection_location=None), "omit the field"),
        (variable("B", networking={"type": "limited", "allowed_hosts": ["https://a"]}), "allowed_hosts"),
        (variable("B", networking={"type": "limited", "allowed_hosts": ["a"] * 17}), "at most 16"),
        (OAUTH | {"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=place) as caught:
            create(vault.id, auth=auth)
        assert not any(secret in caught.value.api_message for secret in SECRETS)
    with pytest.raises(anthropic.BadRequestError, match="auth.type"):
        client.beta.vaults.credentials.update(
            first.id, vault_id=vault.id, auth={"type": "static_bearer", "token": "s3cret-new"}
        )
    with pytest.raises(anthropic.NotFoundError):
        create("vlt_011CZkZAAAAAAAAAAAAAAAAAA", auth=variable())


def test_sessions_take_vaults(client, chat, vault):
    client.beta.vaults.credentials.create(vault.id, auth=variable())
    session = chat(vault_ids=[vault.id])
    assert session.created.vault_ids == [vault.id]
    other = client.beta.vaults.create(display_name="other")
    changed = client.beta.sessions.update(session.id, vault_ids=[other.id, vault.id])
    assert changed.vault_ids == [other.id, vault.id]
    client.beta.vaults.archive(other.id)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        chat(vault_ids=[other.id])
    with pytest.raises(anthropic.NotFoundError):
        chat(vault_ids=["vlt_011CZkZAAAAAAAAAAAAAAAAAA"])


def test_a_host_out_of_reach_is_an_error_of_the_session(client, chat, vault):
    credential = client.beta.vaults.credentials.create(vault.id, auth=variable())
    env = client.beta.environments.create(
        name="far", config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["other.test"]}}
    )
    session = chat(
        agent={"tools": [{"type": "agent_toolset_20260401"}]}, environment_id=env.id, vault_ids=[vault.id]
    )
    watch = session.turn("bash: echo one\nbash: echo two")
    (error,) = of(watch.seen, "session.error")
    assert error.error.type == "credential_host_unreachable_error"
    assert (error.error.credential_id, error.error.vault_id) == (credential.id, vault.id)
    assert "s3cret" not in json.dumps([e.to_dict(mode="json") for e in watch.seen])


def test_a_sandbox_holds_a_placeholder(client, chat, vault):
    """The same one through a rotation; the secret is nowhere inside, nor in what the session shows."""
    credential = client.beta.vaults.credentials.create(
        vault.id, auth=variable(networking={"type": "unrestricted"})
    )
    session = chat(agent={"tools": [{"type": "agent_toolset_20260401"}]}, vault_ids=[vault.id])
    look = "bash: printenv ACME_KEY; ! grep -rsl s3cret-[nv] /proc/[0-9]*/environ /workspace /etc /mnt"

    def held():
        (result,) = of(session.turn(look).seen, "agent.tool_result")
        assert not result.is_error, texts(result)
        return texts(result).split()

    (placeholder,) = held()
    assert len(placeholder) > 20 and "s3cret" not in placeholder
    client.beta.vaults.credentials.update(
        credential.id, vault_id=vault.id, auth={"type": "environment_variable", "secret_value": "s3cret-new"}
    )
    assert held() == [placeholder]
    client.beta.vaults.credentials.create(vault.id, auth=variable("SECOND", networking={"type": "unrestricted"}))
    session.turn("bash: echo kept > /workspace/f; cat /workspace/f")
    (result,) = of(session.turn("bash: printenv SECOND; cat /workspace/f").seen, "agent.tool_result")
    assert texts(result).split()[1] == "kept" and texts(result).split()[0] != placeholder
    assert "s3cret" not in json.dumps([e.to_dict(mode="json") for e in session.history() if e.type == "agent.tool_result"])
