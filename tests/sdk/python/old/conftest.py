"""anthropic 0.97.0: `x-api-key`, `?beta=true`, the older version header, a closed list of event names."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anthropic  # noqa: E402

from anthropic._base_client import BaseClient  # noqa: E402

from harness.server import Server  # noqa: E402


def _validate() -> None:
    """Validates what this SDK has a type for, in pydantic's strict mode.

    What is newer than the SDK cannot be: its unions of events are closed, so events of later types are
    left out, here as by any program that uses it.
    """
    original = BaseClient._process_response_data

    def checked(self: Any, *, data: Any, cast_to: Any, response: Any) -> Any:
        known = _event_types()
        checkable = data
        if "SessionStatusIdle" in str(cast_to):
            if isinstance(data.get("data"), list):
                checkable = data | {"data": [e for e in data["data"] if e["type"] in known]}
            elif data["type"] not in known:
                checkable = None
        if checkable is not None:
            pydantic.TypeAdapter(cast_to).validate_json(json.dumps(checkable), strict=True)
        return original(self, data=data, cast_to=cast_to, response=response)

    BaseClient._process_response_data = checked


@lru_cache
def _event_types() -> set[str]:
    from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents

    members = get_args(get_args(BetaManagedAgentsStreamSessionEvents)[0])
    return {get_args(member.model_fields["type"].annotation)[0] for member in members}


_validate()


def pytest_report_header() -> str:
    return f"anthropic {anthropic.__version__}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), None, "[rehearsal]\ndelay_ms = 0\n")
    yield server
    assert server.stop() == 0, server.log.read_text()[-4000:]
    assert not server.complaints(), server.complaints()


@pytest.fixture(scope="session")
def client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=server.key, base_url=server.url, max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def environment(client: anthropic.Anthropic) -> str:
    config = {"type": "cloud", "networking": {"type": "unrestricted"}}
    return client.beta.environments.create(name="old", config=config, description="for the old SDK").id
