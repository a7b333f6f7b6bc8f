"""A rolling restart while clients work: whoever tries again, as the SDK does, notices nothing."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from anthropic import Anthropic

from conftest import TOOLSET
from harness.chat import Chat, of, texts
from harness.watch import wait_until

CLIENTS = 4


class Client:
    """Makes sessions and has turns in them, one after the other, and notes what came of each."""

    def __init__(self, name: str, url: str, key: str) -> None:
        # What the SDK does by itself, with more patience than a restart takes.
        self._client = Anthropic(api_key=key, base_url=url, max_retries=8, timeout=60)
        self._name = name
        self._over = threading.Event()
        self.sessions: list[Chat] = []
        self.expected: list[list[str]] = []
        self.turns = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            agent = self._client.beta.agents.create(name=self._name, model="rehearsal", tools=[TOOLSET])
            environment = self._client.beta.environments.create(name=self._name)
            while not self._over.is_set():
                made = self._client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
                session, answers = Chat(self._client, made), list[str]()
                self.sessions.append(session)
                self.expected.append(answers)
                for n in itertools.count():
                    answers.append(f"{self._name} {len(self.sessions)} {n}")
                    session.send(f"bash: echo {n} >> notes\nsay: {answers[-1]}")
                    wait_until("the turn to end", lambda s=session: s.get().status == "idle")
                    self.turns += 1
                    if n == 5 or self._over.is_set():
                        break
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.failure = error

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def listing(session: Chat) -> list[str]:
    return [e.id for e in session.history()]


def test_a_rolling_restart_under_load_is_not_noticed(pair: Any) -> None:
    proxy = pair.proxy
    clients = [Client(f"client{n}", proxy, pair.a.key) for n in range(CLIENTS)]
    try:
        for replica in (pair.a, pair.b, pair.a, pair.b):
            before = [client.turns for client in clients]

            def all_went_on(before: list[int] = before) -> bool:
                return all(c.failure or c.turns > was + 1 for c, was in zip(clients, before))

            wait_until("every client to have another turn", all_went_on)
            assert replica.stop() == 0
            replica.start()
    finally:
        for client in clients:
            client.end()
    assert [client.failure for client in clients] == [None] * CLIENTS
    for client in clients:
        for session, expected in zip(client.sessions, client.expected):
            session.check()
            history = session.history()
            # Each message was taken once, each got its one answer, and no call ran twice.
            said = [texts(e) for e in of(history, "agent.message")]
            assert [text for text in said if text.startswith("client")] == expected
            assert len(of(history, "user.message")) == len(expected)
            for replica in (pair.a, pair.b):
                assert listing(pair.at(replica, session)) == [e.id for e in history]
        last = pair.at(pair.a, client.sessions[-1])
        lines = texts(of(last.turn("bash: cat notes").seen, "agent.tool_result")[0]).split()
        assert lines == [str(n) for n in range(len(client.expected[-1]))], "its files came along"
