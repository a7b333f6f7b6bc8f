"""anthropic 0.97.0: `x-api-key`, `?beta=true`, the older version header, a closed list of event names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anthropic  # noqa: E402

from harness.server import Server  # noqa: E402


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
    return anthropic.Anthropic(
        api_key=server.key, base_url=server.url, max_retries=0, timeout=60, _strict_response_validation=True
    )
