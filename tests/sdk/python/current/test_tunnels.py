"""Tunnels: their tokens and certificates. The fixture's key is an admin key, as tunnels need."""

import anthropic
import httpx2
import pytest

# A certificate authority of ten years (ECDSA P-256), made for this test; its key is nowhere.
AUTHORITY = """-----BEGIN CERTIFICATE-----
MIIBrTCCAVKgAwIBAgIUBd0EAyB7OlMiV0PAX+/7kcdariwwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXRnJlZWhvbGQgdGVzdCBhdXRob3JpdHkwHhcNMjYxMTI2MTE1
MDE0WhcNMzYxMTIzMTE1MDE0WjAiMSAwHgYDVQQDDBdGcmVlaG9sZCB0ZXN0IGF1
dGhvcml0eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMHu4+oJuUdkdeF5e7wv
7GREb3VexQboWqQsv0RbGQI5zV0gL/qvOhnYP3AGf0j9PB9GaLShT4wqJoWP6RpE
IP2jZjBkMB0GA1UdDgQWBBQ+ztlq38xOGV7DUNnnNS/aNNhMizAfBgNVHSMEGDAW
gBQ+ztlq38xOGV7DUNnnNS/aNNhMizAOBgNVHQ8BAf8EBAMCAQYwEgYDVR0TAQH/
BAgwBgEB/wIBADAKBggqhkjOPQQDAgNJADBGAiEA9ZzC6PjpKddjOQgQi7hNTlM4
psn7cx0PqdrDTvyPJfYCIQDaDR//4dT6lAZqmeTZYq/Irmk0Sr6ybsTVq/yt7IHU
cA==
-----END CERTIFICATE-----
"""


@pytest.fixture
def tunnel(client):
    made = client.beta.tunnels.create(display_name="office")
    yield made
    client.beta.tunnels.archive(made.id)


def test_a_tunnel(client, tunnel):
    assert tunnel.type == "tunnel" and tunnel.id.startswith("tnl_") and tunnel.archived_at is None
    assert tunnel.domain.endswith(".tunnel.localhost")
    assert client.beta.tunnels.retrieve(tunnel.id) == tunnel
    nameless = client.beta.tunnels.create()
    assert nameless.display_name is None
    # Pages of one are followed to the end, newest first.
    listed = [t.id for t in client.beta.tunnels.list(limit=1)]
    assert listed[:2] == [nameless.id, tunnel.id]
    archived = client.beta.tunnels.archive(nameless.id)
    assert archived.archived_at is not None
    assert client.beta.tunnels.archive(nameless.id) == archived
    assert nameless.id not in [t.id for t in client.beta.tunnels.list()]
    assert nameless.id in [t.id for t in client.beta.tunnels.list(include_archived=True)]
    with pytest.raises(anthropic.BadRequestError):
        client.beta.tunnels.reveal_token(nameless.id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.tunnels.retrieve("tnl_none")


def test_a_token(client, tunnel):
    token = client.beta.tunnels.reveal_token(tunnel.id)
    assert token.type == "tunnel_token" and token.id.startswith("ttok_")
    assert client.beta.tunnels.reveal_token(tunnel.id) == token
    rotated = client.beta.tunnels.rotate_token(tunnel.id, reason="leaked")
    assert rotated.tunnel_token != token.tunnel_token
    assert client.beta.tunnels.reveal_token(tunnel.id) == rotated


def test_certificates(client, tunnel):
    certificates = client.beta.tunnels.certificates
    added = certificates.create(tunnel.id, ca_certificate_pem=AUTHORITY)
    assert added.type == "tunnel_certificate" and added.tunnel_id == tunnel.id
    assert len(added.fingerprint) == 64 and added.expires_at.year > 2026
    assert certificates.retrieve(added.id, tunnel_id=tunnel.id) == added
    assert [c.id for c in certificates.list(tunnel.id)] == [added.id]
    with pytest.raises(anthropic.BadRequestError, match="already"):
        certificates.create(tunnel.id, ca_certificate_pem=AUTHORITY)
    with pytest.raises(anthropic.BadRequestError, match="ca_certificate_pem"):
        certificates.create(tunnel.id, ca_certificate_pem="nonsense")
    archived = certificates.archive(added.id, tunnel_id=tunnel.id)
    assert archived.archived_at is not None
    assert not list(certificates.list(tunnel.id))
    assert [c.id for c in certificates.list(tunnel.id, include_archived=True)] == [added.id]


def test_an_ordinary_key_manages_no_tunnels_and_one_for_tunnels_nothing_else(client, server):
    def with_key(**body):
        made = httpx2.post(
            f"{server.url}/v1/freehold/keys",
            headers={"authorization": f"Bearer {server.key}"},
            json={"name": "k"} | body,
        )
        return client.with_options(api_key=made.json()["key"])

    with pytest.raises(anthropic.PermissionDeniedError, match="--scope tunnels"):
        with_key().beta.tunnels.create()
    scoped = with_key(scope="tunnels")
    scoped.beta.tunnels.archive(scoped.beta.tunnels.create().id)
    with pytest.raises(anthropic.PermissionDeniedError, match="that API only"):
        scoped.beta.agents.list()
