"""The SDK's own poller and worker, unmodified, on the queue of a self-hosted environment."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.tools import beta_async_tool
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401

from conftest import TOOLSET
from harness.chat import last_text, of
from harness.watch import PATIENCE_S, wait_until

LOOKUP = {
    "type": "custom",
    "name": "lookup",
    "description": "Looks a word up.",
    "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
ASK = TOOLSET | {"default_config": {"permission_policy": {"type": "always_ask"}}}
BASH = 'tool: bash {"command": "%s"}\nsay: done'


@beta_async_tool
async def lookup(word: str) -> str:
    """Looks a word up."""
    return f"{word} means 42"


def verdict(id, result):
    return {"type": "user.tool_confirmation", "tool_use_id": id, "result": result}


def printed(result):
    return "".join(b.text for b in result.content)


class Queue:
    """A self-hosted environment and its key."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        name = f"hosted-{os.urandom(4).hex()}"
        self.id = client.beta.environments.create(name=name, config={"type": "self_hosted"}).id
        path = f"/v1/freehold/environments/{self.id}/keys"
        self.key = client.post(path, body={"name": "test"}, cast_to=object)["key"]
        self.work = client.beta.environments.work

    def async_client(self, key):
        return AsyncAnthropic(api_key=key, base_url=self.server.url, timeout=60, _strict_response_validation=True)

    def items(self):
        return list(self.bearer().beta.environments.work.list(self.id))

    def bearer(self):
        return anthropic.Anthropic(auth_token=self.key, api_key=None, base_url=self.server.url, max_retries=0)

    def states(self, session):
        return [item.state for item in reversed(self.items()) if item.data.id == session]


class Worker:
    """`EnvironmentWorker.run` in a thread, until it is stopped."""

    def __init__(self, queue, folder, **options):
        self.error = None
        self._loop = asyncio.new_event_loop()
        # The client's own key is of no use: the worker must go by the environment's.
        client = queue.async_client("sk-fh-not-a-key")
        options = {"environment_key": queue.key, "max_idle": 1, "workdir": folder} | options
        self._worker = client.beta.environments.work.worker(environment_id=queue.id, **options)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._worker.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the waiting test
            self.error = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def join(self):
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the worker goes on"

    def stop(self):
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # It ended just now.
                self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()


@pytest.fixture
def queue(client, server):
    return Queue(client, server)


@pytest.fixture
def work(queue, tmp_path):
    started = []

    def start(**options):
        started.append(Worker(queue, tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_a_worker_runs_bash_and_comes_back_for_the_next_turn(chat, queue, work, tmp_path):
    session = chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    work()
    with session.watch() as watch:
        session.send(BASH % "echo $((40 + 2)) > answer; cat answer")
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
        (result,) = of(watch.seen, "user.tool_result")
        assert printed(result).strip() == "42"
        assert last_text(watch.seen) == "done"
    assert (tmp_path / "answer").read_text() == "42\n"
    # It goes after its idle second, and the next message queues another item.
    wait_until("the item stops", lambda: queue.states(session.id) == ["stopped"])
    with session.watch() as watch:
        session.send(BASH % "cat answer; env")
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
        (result,) = of(watch.seen, "user.tool_result")
        assert printed(result).startswith("42\n")
        assert queue.key not in printed(result)
    wait_until("the second item stops", lambda: queue.states(session.id) == ["stopped", "stopped"])


def test_a_worker_answers_custom_tools(chat, queue, work):
    session = chat(agent={"tools": [TOOLSET, LOOKUP]}, environment_id=queue.id)
    work(tools=lambda context: [*beta_agent_toolset_20260401(context), lookup])
    with session.watch() as watch:
        session.send('tool: lookup {"word": "life"}\nsay: done')
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
        (result,) = of(watch.seen, "user.custom_tool_result")
        assert printed(result) == "life means 42"


def test_a_worker_waits_for_permission(chat, queue, work, tmp_path):
    session = chat(agent={"tools": [ASK]}, environment_id=queue.id)
    work()
    for word, ran in [("allow", True), ("deny", False)]:
        with session.watch() as watch:
            session.send(BASH % f"touch {word}")
            use = watch.until("agent.tool_use")
            assert use.evaluated_permission == "ask"
            watch.idle()
            session.send(verdict(use.id, word))
            watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
        assert (tmp_path / word).exists() == ran


def test_an_interrupt_ends_a_call_and_the_session_goes_on(chat, queue, work, tmp_path):
    session = chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    work()
    with session.watch() as watch:
        session.send(BASH % "touch begun; sleep 3")
        wait_until("the call runs", (tmp_path / "begun").exists)
        session.send({"type": "user.interrupt"})
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
    with session.watch() as watch:
        session.send(BASH % "echo again")
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
        assert printed(of(watch.seen, "user.tool_result")[-1]).strip() == "again"


SCRIPT = """
import asyncio, sys
from anthropic import AsyncAnthropic
url, environment, key, folder = sys.argv[1:]
client = AsyncAnthropic(api_key="sk-fh-not-a-key", base_url=url)
asyncio.run(client.beta.environments.work.worker(environment_id=environment, environment_key=key, workdir=folder).run())
"""


def test_a_killed_worker_is_replaced(chat, queue, work, server, tmp_path):
    session = chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), server.url, queue.id, queue.key, str(tmp_path)]
    doomed = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        with session.watch() as watch:
            once = "echo run >> runs; if [ $(wc -l < runs) = 1 ]; then sleep 60; fi; echo over"
            session.send(BASH % once)
            wait_until("the call runs", (tmp_path / "runs").exists)
            (item,) = queue.items()
            wait_until("it beats", lambda: queue.items()[0].state == "active")
            os.killpg(doomed.pid, 9)
            doomed.wait(PATIENCE_S)
            # So that the test need not wait five minutes: whoever holds the key may shorten a lease.
            queue.bearer().beta.environments.work.heartbeat(item.id, environment_id=queue.id, desired_ttl_seconds=5)
            work()
            watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
            (result,) = of(watch.seen, "user.tool_result")
            assert printed(result).strip() == "over"
    finally:
        if doomed.poll() is None:
            os.killpg(doomed.pid, 9)
    assert queue.states(session.id)[0] == "stopped"


def test_a_graceful_stop_reaches_the_worker(chat, queue, work, client):
    session = chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    work(max_idle=None)
    wait_until("a worker has it", lambda: queue.states(session.id) == ["active"])
    (item,) = queue.items()
    # It learns of it with its next heartbeat, within 30 seconds.
    stopping = queue.work.stop(item.id, environment_id=queue.id)
    assert stopping.state == "stopping"
    assert stopping.stop_requested_at is not None
    wait_until("it stops", lambda: queue.work.retrieve(item.id, environment_id=queue.id).state == "stopped")
    with pytest.raises(anthropic.ConflictError):
        queue.work.stop(item.id, environment_id=queue.id)


def test_a_drained_queue(chat, queue):
    made = [chat(agent={"tools": [TOOLSET]}, environment_id=queue.id).id for _ in range(3)]

    async def drain():
        poller = queue.async_client("sk-fh-not-a-key").beta.environments.work.poller
        found = poller(environment_id=queue.id, environment_key=queue.key, drain=True, auto_stop=False, block_ms=None)
        return [item async for item in found]

    items = asyncio.run(drain())
    assert [item.data.id for item in items] == made
    assert all(item.secret for item in items)
    listed = queue.items()
    assert {item.state for item in listed} == {"starting"}
    assert {item.secret for item in listed} == {None}
    stats = queue.work.stats(queue.id)
    assert (stats.depth, stats.pending, stats.workers_polling) == (0, 0, 1)


def test_metadata_and_stats(chat, queue):
    chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    stats = queue.work.stats(queue.id)
    assert (stats.depth, stats.pending) == (1, 0)
    assert stats.oldest_queued_at is not None
    (item,) = queue.items()
    changed = queue.work.update(item.id, environment_id=queue.id, metadata={"rack": "b2"})
    assert changed.metadata == {"rack": "b2"}
    assert queue.work.update(item.id, environment_id=queue.id, metadata={"rack": None}).metadata == {}


def test_an_api_key_is_none_for_a_worker(queue, work, server):
    worker = work(environment_key=server.key)
    worker.join()
    assert isinstance(worker.error, anthropic.PermissionDeniedError)
    assert "not an API key" in str(worker.error)


def test_a_revoked_key_ends_the_worker(chat, queue, work, client):
    path = f"/v1/freehold/environments/{queue.id}/keys"
    made = client.post(path, body={"name": "second"}, cast_to=object)
    worker = work(environment_key=made["key"])
    chat(agent={"tools": [TOOLSET]}, environment_id=queue.id)
    wait_until("it works", lambda: [i.state for i in queue.items()] != ["queued"])
    client.post(f"{path}/{made['id']}/revoke", body={}, cast_to=object)
    worker.join()
    assert isinstance(worker.error, anthropic.AuthenticationError)
