"""Clients: the official SDK, which tries again as it does, at one replica after the other; and the notes they
make of all they sent, saw and did."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from contextlib import suppress
from typing import Any

import anthropic
import httpx2
from anthropic import Anthropic

from harness.chat import user
from harness.history import RESULTS, USES
from harness.watch import shut

# Inputs of a session that may wait for their turn.
MAX_WAITING = 3
ANSWER_S, CONNECT_S = 10, 2
# A stream that says nothing, not even a ping, for so long is given up.
SILENCE_S = 40
RETRIES = 12
# How often a message is followed by an interrupt.
INTERRUPTED = 0.05
# What a client may meet while faults happen. Anything else is a bug of its own or the server's.
TROUBLE = (anthropic.APIConnectionError, anthropic.InternalServerError, httpx2.HTTPError)


class RoundRobin(httpx2.BaseTransport):
    """Sends each request to the next replica, as a balancer does; `posts` counts what was tried."""

    def __init__(self, urls: list[str]) -> None:
        self._turn = itertools.cycle([httpx2.URL(url) for url in urls])
        self._inner = httpx2.HTTPTransport(limits=httpx2.Limits(max_connections=200))
        self.posts: dict[str, int] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        to = next(self._turn)
        request.url = request.url.copy_with(host=to.host, port=to.port)
        request.headers["host"] = f"{to.host}:{to.port}"
        if mark := request.headers.get("x-sim-input"):
            self.posts[mark] = self.posts.get(mark, 0) + 1
        return self._inner.handle_request(request)


def connect(key: str, urls: list[str], transport: RoundRobin | None = None, **options: Any) -> Anthropic:
    transport = transport or RoundRobin(urls)
    options = {"max_retries": RETRIES, "timeout": httpx2.Timeout(ANSWER_S, connect=CONNECT_S)} | options
    # No HTTP proxy of the environment: hosts are reached as they are.
    http = httpx2.Client(transport=transport, trust_env=False)
    return Anthropic(api_key=key, base_url="http://replicas", http_client=http, **options)


class Notes:
    """What all clients noted. Lists only grow, by one statement each, so threads need no lock."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.acked: list[dict[str, Any]] = []
        self.interrupts: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []
        self.streams: list[dict[str, Any]] = []
        self.listings: list[dict[str, Any]] = []
        self.peeks: list[dict[str, Any]] = []
        self.marks: list[str] = []
        self.broken: list[str] = []
        self.gave_up = 0


class Talk:
    """One session: a thread that sends and one that reads."""

    def __init__(
        self, notes: Notes, workspace: str, key: str, urls: list[str], session: str, effects: str, kinds: list[str], seed: str
    ) -> None:
        self.notes, self.id, self.workspace = notes, session, workspace
        self.kinds, self.effects = kinds, effects
        self.random = random.Random(seed)
        self.transport = self.make_transport(self.rotated(urls))
        self.client = connect(key, urls, self.transport)
        self.events = self.client.beta.sessions.events
        self.finished = threading.Event()  # No more input.
        self.over = threading.Event()  # Nothing more at all.
        self.waiting: set[str] = set()
        self.stream: Any = None
        self._threads = [threading.Thread(target=self._guard, args=(w,), daemon=True) for w in (self._send, self._read)]
        for thread in self._threads:
            thread.start()

    def rotated(self, urls: list[str]) -> list[str]:
        """Not all begin at the same replica."""
        first = self.random.randrange(len(urls))
        return urls[first:] + urls[:first]

    def make_transport(self, urls: list[str]) -> RoundRobin:
        return RoundRobin(urls)

    def _guard(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown at the end, as a violation
            self.notes.broken.append(f"{self.id} {work.__name__}: {type(error).__name__}: {str(error)[:300]}")

    def _plan(self, mark: str) -> str:
        steps: list[Any] = []
        for _ in range(self.random.randint(1, 3)):
            one = self.random.choice(self.kinds)
            steps.append(one if self.random.random() < 0.7 else [one, self.random.choice(self.kinds)])
        return json.dumps({"plan": steps, "effects": self.effects, "mark": mark})

    def sent(self) -> None:
        """Waits until the last input is acknowledged or given up, which the SDK takes its time for."""
        self._threads[0].join(120)

    def _send(self) -> None:
        for number in itertools.count():
            while len(self.waiting) >= MAX_WAITING and not self.finished.is_set():
                self.finished.wait(0.1)
            if self.finished.wait(self.random.random() * 1.5):
                return
            self.send(f"{self.id}/{number}")
            if self.random.random() < INTERRUPTED:
                self._interrupt()

    def _interrupt(self) -> None:
        """Stops what runs. It overtakes what is queued, so its place in the log is nobody's promise."""
        with suppress(*TROUBLE):
            sent = self.events.send(self.id, events=[{"type": "user.interrupt"}])
            self.notes.interrupts.append({"session": self.id, "event": sent.data[0].id})

    def send(self, mark: str) -> None:
        attempt = {"session": self.id, "mark": mark, "posts": 0}
        self.notes.attempts.append(attempt)
        try:
            sent = self.events.send(self.id, events=[user(self._plan(mark))], extra_headers={"x-sim-input": mark})
        except TROUBLE:
            self.notes.gave_up += 1
            return
        finally:
            attempt["posts"] = self.transport.posts.get(mark, 0)
        self.waiting.add(sent.data[0].id)
        self.acked(sent.data[0].id, mark)
        if self.random.random() < 0.2:
            self._look_for(sent.data[0].id)

    def _look_for(self, event: str) -> None:
        """Whoever has an acknowledgement finds the input, whichever replica is asked next."""
        with suppress(*TROUBLE):
            if not any(e.id == event for e in self.events.list(self.id, order="desc")):
                self.notes.broken.append(f"{self.id}: {event} was acknowledged, and is not in the next listing")

    def acked(self, event: str, mark: str) -> None:
        self.notes.acked.append({"session": self.id, "event": event, "mark": mark})

    def _read(self) -> None:
        """Opens the stream, lists what was before, follows; and again."""
        while not self.over.is_set():
            try:
                self._connection()
            except anthropic.NotFoundError:
                raise  # It exists, so nobody may say that it does not.
            except (*TROUBLE, anthropic.APIError):
                pass
            self.over.wait(0.2)

    def _connection(self) -> None:
        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
        with self.client.with_options(max_retries=0).beta.sessions.events.stream(self.id, timeout=timeout) as stream:
            self.stream = stream
            listed = self._list()
            note: dict[str, Any] = {"session": self.id, "listed": listed, "seen": [], "open": True}
            self.notes.streams.append(note)
            try:
                for event in stream:
                    note["seen"].append(event.id)
                    self._saw([event])
                    if self.over.is_set():
                        return
            finally:
                note["open"] = self.over.is_set()
                self.stream = None

    def _list(self) -> list[str]:
        events = list(self.events.list(self.id, limit=1000))
        self.notes.listings.append({"session": self.id, "events": [e.id for e in events if e.processed_at]})
        self._saw(events)
        return [e.id for e in events if e.processed_at]

    def _saw(self, events: list[Any]) -> None:
        done = {e.custom_tool_use_id for e in events if e.type == "user.custom_tool_result"}
        for event in events:
            if event.processed_at:
                self.waiting.discard(event.id)
            if event.type == "agent.custom_tool_use" and event.id not in done:
                self._execute(event)

    def _execute(self, call: Any) -> None:
        """Runs a custom tool, once, and answers as often as it takes."""
        nonce = call.input["nonce"]
        if nonce not in self.notes.marks:
            self.notes.marks.append(nonce)
        content = [{"type": "text", "text": f"done {nonce}"}]
        result = {"type": "user.custom_tool_result", "custom_tool_use_id": call.id, "content": content}
        # Trouble goes up: the connection is made anew, what is still open is seen again, and answered again.
        with suppress(anthropic.ConflictError, anthropic.BadRequestError):
            self.events.send(self.id, events=[result])

    def close(self) -> None:
        self.finished.set()
        self.over.set()
        if self.stream is not None:
            shut(self.stream)
        for thread in self._threads:
            thread.join(60)


def history(client: Anthropic, session: str) -> list[dict[str, Any]]:
    """The whole log, as JSON."""
    return [e.to_dict(mode="json") for e in client.beta.sessions.events.list(session, limit=1000)]


def at_rest(events: list[dict[str, Any]]) -> bool:
    """Nothing is queued, called or running."""
    if any(not e.get("processed_at") for e in events):
        return False
    results = {e[RESULTS[e["type"]]] for e in events if e["type"] in RESULTS}
    if any(e["type"] in USES and e["id"] not in results for e in events):
        return False
    states = [e for e in events if e["type"] in ("session.status_idle", "session.status_running", "session.status_terminated")]
    inputs = any(e["type"] == "user.message" for e in events)
    if not states:
        return not inputs
    last = states[-1]
    return last["type"] == "session.status_terminated" or (
        last["type"] == "session.status_idle" and last["stop_reason"]["type"] != "requires_action"
    )


def settle(talks: list[Talk], patience: float) -> dict[str, list[dict[str, Any]]]:
    """Waits until every session is at rest; the logs, also of those that are not."""
    logs: dict[str, list[dict[str, Any]]] = {}
    end = time.monotonic() + patience
    left = list(talks)
    while left:
        for talk in list(left):
            with suppress(*TROUBLE):
                logs[talk.id] = history(talk.client, talk.id)
                if at_rest(logs[talk.id]):
                    left.remove(talk)
        if time.monotonic() > end:
            break
        time.sleep(0.3 if left else 0)
    return logs
