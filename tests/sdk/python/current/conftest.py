"""The newest SDK against one server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anthropic  # noqa: E402
from anthropic import AsyncAnthropic, Anthropic  # noqa: E402
from anthropic._base_client import BaseClient  # noqa: E402

from harness import strict  # noqa: E402
from harness.chat import Chat  # noqa: E402
from harness.s3 import Storage  # noqa: E402
from harness.server import Server  # noqa: E402
from harness.upstream import Script, Upstream  # noqa: E402

strict.install(BaseClient)

TOOLSET = {"type": "agent_toolset_20260401"}

CONFIG = """
[rehearsal]
delay_ms = 0

[retry]
base_ms = 20
max_ms = 200
attempts = 3

[mcp]
allow = ["127.0.0.0/8"]

[[providers]]
name = "scripted"
type = "messages"
base_url = "{upstream}"

[[models]]
id = "priced"
provider = "scripted"
price = {{ input = "1000", output = "1000" }}

[[models]]
id = "small"
provider = "scripted"
context_window = 20000
max_output_tokens = 2000

[[models]]
id = "no-system"
provider = "scripted"
supports = {{ system_messages = false }}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--object-storage", action="store_true", help="the server keeps files in object storage")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without object storage its own tests have nothing to look at."""
    alone = collection_path.name == "test_object_storage.py"
    return True if alone and not config.getoption("--object-storage") else None


def pytest_report_header() -> str:
    return f"anthropic {anthropic.__version__}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(
        f"strict validation: {strict.Counter.bodies} bodies and stream events, {strict.Counter.objects} objects"
    )


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def storage() -> Iterator[Storage]:
    """Only with `--object-storage`."""
    storage = Storage()
    yield storage
    storage.close()


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> Iterator[Server]:
    folder, config = tmp_path_factory.mktemp("server"), CONFIG.format(upstream=upstream.url)
    if request.config.getoption("--object-storage"):
        config += request.getfixturevalue("storage").config(folder)
    server = Server(folder, upstream.url, config)
    yield server
    assert server.stop() == 0, server.log.read_text()[-4000:]
    assert not upstream.stray, f"requests for models nobody scripted: {upstream.stray}"
    assert not server.complaints(), server.complaints()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Anthropic]:
    """As a user makes it, but for strictness; no retries, so that every answer is the first one."""
    yield Anthropic(
        api_key=server.key, base_url=server.url, max_retries=0, timeout=60, _strict_response_validation=True
    )
    assert strict.Counter.bodies > 0, "nothing was validated"


@pytest.fixture
def aclient(server: Server) -> AsyncAnthropic:
    return AsyncAnthropic(
        api_key=server.key, base_url=server.url, max_retries=0, timeout=60, _strict_response_validation=True
    )


@pytest.fixture
def script(upstream: Upstream) -> Iterator[Script]:
    """A model of the test's own. All that was scripted must be used, nothing else be asked."""
    script = upstream.script()
    yield script
    script.release()
    assert not script.unexpected, "the model was asked more often than scripted"
    assert not script.replies, f"{len(script.replies)} scripted answers were never asked for"


@pytest.fixture(scope="session")
def environment(client: Anthropic) -> Any:
    return client.beta.environments.create(name="shared", config={"type": "cloud"})


@pytest.fixture
def make_agent(client: Anthropic) -> Callable[..., Any]:
    def make(model: str = "rehearsal", **fields: Any) -> Any:
        return client.beta.agents.create(**({"name": "tester", "model": model} | fields))

    return make


@pytest.fixture
def chat(client: Anthropic, environment: Any, make_agent: Callable[..., Any]) -> Iterator[Callable[..., Chat]]:
    """Makes sessions, and checks the history of each when the test is over."""
    made: list[Chat] = []

    def make(model: str = "rehearsal", *, agent: str | dict[str, Any] | None = None, **fields: Any) -> Chat:
        """`agent` is either what the session is created with, or fields for an agent made here."""
        fields.setdefault("environment_id", environment.id)
        given = isinstance(agent, str) or (agent is not None and "type" in agent)
        fields["agent"] = agent if given else make_agent(model, **(agent or {})).id
        session = client.beta.sessions.create(**fields)
        made.append(Chat(client, session))
        return made[-1]

    yield make
    for one in made:
        try:
            one.check()
        except anthropic.NotFoundError:
            pass  # The test deleted it.
