"""Environments: defaults, merging updates, archiving, deleting."""

import anthropic
import pytest

from conftest import TOOLSET
from harness.chat import of, texts


def test_defaults(client):
    env = client.beta.environments.create(name="plain")
    assert env.config.type == "cloud" and env.config.networking.type == "unrestricted"
    assert env.config.packages.pip == [] and env.config.packages.apt == []
    assert env.metadata == {} and env.description is None and env.archived_at is None
    assert client.beta.environments.retrieve(env.id) == env


def test_limited_networking_is_resolved_and_merged(client):
    env = client.beta.environments.create(
        name="limited",
        config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org"]}},
    )
    net = env.config.networking
    assert net.allowed_hosts == ["api.example.com", "*.example.org"]
    assert net.allow_mcp_servers is False and net.allow_package_managers is False
    env = client.beta.environments.update(
        env.id, config={"type": "cloud", "networking": {"type": "limited", "allow_package_managers": True}}
    )
    assert env.config.networking.allowed_hosts == ["api.example.com", "*.example.org"]
    assert env.config.networking.allow_package_managers is True
    env = client.beta.environments.update(env.id, name="renamed", description="", metadata={"a": "1", "b": "2"})
    assert env.name == "renamed" and env.description == "" and env.config.networking.allow_package_managers is True
    env = client.beta.environments.update(env.id, metadata={"a": None, "b": "", "c": "3"}, description=None)
    assert env.metadata == {"c": "3"} and env.description is None


def test_packages_need_package_managers(client):
    with pytest.raises(anthropic.BadRequestError, match="allow_package_managers"):
        client.beta.environments.create(
            name="p",
            config={"type": "cloud", "networking": {"type": "limited"}, "packages": {"type": "packages", "pip": ["pandas"]}},
        )


@pytest.mark.parametrize("host", ["https://example.com", "example.com:443", "exa mple.com", "a/b", ""])
def test_bad_hosts(client, host):
    with pytest.raises(anthropic.BadRequestError, match="allowed_hosts"):
        client.beta.environments.create(
            name="h", config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": [host]}}
        )


def test_the_type_of_an_environment_stays(client):
    env = client.beta.environments.create(name="t")
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(env.id, config={"type": "self_hosted"})
    assert caught.value.error_code == "invalid_config_type_change"


def test_names_are_unique_among_those_in_use(client):
    first = client.beta.environments.create(name="one of a kind")
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.environments.create(name="one of a kind")
    assert caught.value.response.headers["x-should-retry"] == "false"
    client.beta.environments.archive(first.id)
    assert client.beta.environments.create(name="one of a kind").id != first.id


def test_metadata_rules(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.create(name="m", metadata={"k" * 65: "v"})
    assert caught.value.error_code == "invalid_metadata"


def test_account_scope_is_refused(client):
    with pytest.raises(anthropic.BadRequestError, match="scope"):
        client.beta.environments.create(name="s", scope="account")


def test_archive_is_final(client, make_agent):
    env = client.beta.environments.create(name="old")
    agent = make_agent()
    session = client.beta.sessions.create(agent=agent.id, environment_id=env.id)
    archived = client.beta.environments.archive(env.id)
    assert archived.archived_at is not None
    assert client.beta.environments.archive(env.id).archived_at == archived.archived_at
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(env.id, name="new")
    assert caught.value.error_code == "environment_archived"
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.create(agent=agent.id, environment_id=env.id)
    assert client.beta.sessions.retrieve(session.id).status == "idle"


def test_delete_only_when_nothing_uses_it(client, make_agent):
    env = client.beta.environments.create(name="used")
    session = client.beta.sessions.create(agent=make_agent().id, environment_id=env.id)
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.environments.delete(env.id)
    assert caught.value.response.headers["x-should-retry"] == "false"
    client.beta.sessions.delete(session.id)
    gone = client.beta.environments.delete(env.id)
    assert (gone.id, gone.type) == (env.id, "environment_deleted")
    with pytest.raises(anthropic.NotFoundError):
        client.beta.environments.retrieve(env.id)


def test_archived_environments_can_be_deleted(client):
    env = client.beta.environments.create(name="both")
    client.beta.environments.archive(env.id)
    assert client.beta.environments.delete(env.id).type == "environment_deleted"


def test_self_hosted_takes_no_files(client, make_agent):
    env = client.beta.environments.create(name="ours", config={"type": "self_hosted"})
    assert env.config.type == "self_hosted"
    file = client.files.upload(file=("x.txt", b"x", "text/plain"))
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(
            agent=make_agent().id, environment_id=env.id, resources=[{"type": "file", "file_id": file.id}]
        )
    assert (
        f"Environment {env.id} is a self-hosted environment. `resources` are not supported with self-hosted environments."
        in caught.value.api_message
    )


def test_limited_networking_holds(client, chat, upstream):
    """A sandbox that may reach one host reaches no other; the host's own loopback least of all."""
    env = client.beta.environments.create(
        name="shut", config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": []}}
    )
    session = chat(agent={"tools": [TOOLSET]}, environment_id=env.id)
    port = upstream.url.rsplit(":", 1)[1]
    watch = session.turn(
        f"bash: exec 3<>/dev/tcp/127.0.0.1/{port} && echo CONNECTED\n"
        "bash: ls /sys/class/net 2>/dev/null; cat /proc/net/dev"
    )
    connect, devices = of(watch.seen, "agent.tool_result")
    assert "CONNECTED" not in texts(connect) and connect.is_error
    assert "eth" not in texts(devices) and "ens" not in texts(devices)
