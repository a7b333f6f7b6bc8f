"""Many sessions over a few workers that are killed at random and replaced.

Every call leaves a mark of its own, so that a call that ran twice, or was said to have run and did
not, shows. `FREEHOLD_SEED` repeats a run's choices.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anthropic import Anthropic
from conftest import Queue, Worker
from harness import history
from harness.chat import Chat, texts, user
from harness.watch import wait_until

SESSIONS = 200
WORKERS = 4
CALLS = 4
KILLS = 12
# Those of the one host whose sandboxes are isolated.
ISOLATED_SESSIONS = 24
ISOLATED_KILLS = 3
PATIENCE_S = 180

TOOLSET = {"type": "agent_toolset_20260401"}
UNKNOWN = "Whether the call took effect is unknown"


def seed() -> int:
    """Printed, so that a failure can be looked at again."""
    chosen = int(os.environ.get("FREEHOLD_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"FREEHOLD_SEED={chosen}")
    return chosen


class Told:
    """A session, and the marks its calls leave, in order."""

    def __init__(self, client: Anthropic, agent: str, environment: str, number: int, effects: str, *more: str) -> None:
        self.marks = [f"{number}-{call}" for call in range(CALLS)]
        self.chat = Chat(client, client.beta.sessions.create(agent=agent, environment_id=environment))
        # Between the mark and the end a worker can die.
        calls = [f"bash: echo {mark} >> {effects}; sleep 0.05; echo done {mark}" for mark in self.marks]
        self.chat.send(user("\n".join([*calls, *more, "say: over"])))

    def over(self) -> list[Any]:
        """The history, once the turn has ended well."""

        def ended() -> list[Any] | None:
            events = self.chat.history()
            last = [e for e in events if e.type == "session.status_idle"]
            return events if last and last[-1].stop_reason.type == "end_turn" else None

        # A call that waits for a worker is an idle too, so the last one has to say more.
        wait_until(f"the end of {self.chat.id}", lambda: self.chat.get().status == "idle" and ended(), PATIENCE_S)
        return self.chat.history()


def answers(events: list[Any]) -> list[tuple[bool, str]]:
    """Each call's result, in the order of the calls: whether it is an error, and its text."""
    found = {e.tool_use_id: e for e in events if e.type == "user.tool_result"}
    uses = [e.id for e in events if e.type == "agent.tool_use"]
    return [(bool(found[use].is_error), texts(found[use])) for use in uses if use in found]


def wrongs(marks: list[str], results: list[tuple[bool, str]], ran: Counter[str]) -> list[str]:
    """What is wrong with one session, given what really ran."""
    found = []
    if len(results) != len(marks):
        found.append(f"{len(results)} results for {len(marks)} calls")
    for mark, (is_error, text) in zip(marks, results, strict=False):
        times = ran[mark]
        if times > 1:
            found.append(f"{mark} ran {times} times")
        if is_error and UNKNOWN not in text:
            found.append(f"{mark} failed: {text}")
        if not is_error and (text.strip(), times) != (f"done {mark}", 1):
            found.append(f"{mark} ran {times} times and was answered: {text}")
    return found


def test_the_judge_can_say_no() -> None:
    """The negative control of the tests below."""
    good = [(False, "done 0-0"), (True, f"… {UNKNOWN} …")]
    marks = ["0-0", "0-1"]
    assert wrongs(marks, good, Counter(["0-0"])) == []
    assert wrongs(marks, good, Counter(["0-0", "0-1"])) == []
    for results, ran in [
        (good, ["0-0", "0-0"]),  # twice
        (good, ["0-0", "0-1", "0-1"]),  # unknown, and twice
        (good, []),  # said to have run
        (good[:1], ["0-0"]),  # no result
        ([(True, "no such file"), good[1]], ["0-0"]),
        ([(False, "done 0-1"), good[1]], ["0-0"]),  # another call's
    ]:
        assert wrongs(marks, results, Counter(ran)), (results, ran)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_fleet_that_loses_workers(worker: Callable[..., Worker], client: Anthropic, queue: Queue, tmp_path: Path) -> None:
    chance = random.Random(seed())
    effects = tmp_path / "effects"
    agent = client.beta.agents.create(name="fleet", model="rehearsal", tools=[TOOLSET]).id
    told = [Told(client, agent, queue.environment.id, n, str(effects)) for n in range(SESSIONS)]
    stats = queue.stats()
    assert (stats.depth, stats.pending, stats.workers_polling) == (SESSIONS, 0, 0)
    assert stats.oldest_queued_at is not None

    # Without isolation, so that all hosts share one file that proves what ran.
    def start() -> Worker:
        return worker("freehold", "--sandbox", "process")

    fleet = [start() for _ in range(WORKERS)]
    for at in sorted(chance.sample(range(1, SESSIONS * CALLS * 3 // 4), KILLS)):
        wait_until(f"{at} marks", lambda at=at: len(lines(effects)) >= at, PATIENCE_S)
        victim = chance.randrange(WORKERS)
        fleet[victim].kill()
        if chance.random() < 0.5:
            fleet[victim].start()  # It comes back to what it left.
        else:
            fleet[victim] = start()  # Another host.
    histories = [one.over() for one in told]
    wait_until("an empty queue", queue.is_empty, PATIENCE_S)
    ran = Counter(lines(effects))
    results = [answers(events) for events in histories]
    found = [f"{one.chat.id}: {w}" for one, r in zip(told, results, strict=True) for w in wrongs(one.marks, r, ran)]
    assert not found, "\n".join(found)
    assert set(ran) <= {mark for one in told for mark in one.marks}
    for events in histories:
        history.check(events)
    stats = queue.stats()
    assert (stats.depth, stats.pending, stats.oldest_queued_at) == (0, 0, None)
    assert WORKERS <= stats.workers_polling <= WORKERS + KILLS
    items = queue.items()
    assert {item.data.id for item in items} == {one.chat.id for one in told}
    unknown = sum(is_error for r in results for is_error, _ in r)
    print(f"{len(items)} items for {SESSIONS} sessions, {sum(ran.values())} calls ran, {unknown} outcomes unknown")
    assert len(items) > SESSIONS, "no kill took a session from its worker"


def test_a_host_that_comes_back_in_isolation(worker: Callable[..., Worker], client: Anthropic, queue: Queue) -> None:
    """With the sandboxes of every day: the marks are inside, and the agent itself reads them out."""
    chance = random.Random(seed())
    agent = client.beta.agents.create(name="host", model="rehearsal", tools=[TOOLSET]).id
    told = [
        Told(client, agent, queue.environment.id, n, "effects", "bash: cat effects") for n in range(ISOLATED_SESSIONS)
    ]
    host = worker("freehold")

    def answered() -> int:
        return sum(len(answers(one.chat.history())) for one in told)

    total = ISOLATED_SESSIONS * (CALLS + 1)
    for at in sorted(chance.sample(range(1, total // 2), ISOLATED_KILLS)):
        wait_until(f"{at} results", lambda at=at: answered() >= at, PATIENCE_S)
        host.kill()
        host.start()
    for one in told:
        events = one.over()
        *results, (is_error, text) = answers(events)
        history.check(events)
        # The last call may be the one that was killed; it changes nothing, so it is asked again.
        if is_error:
            assert UNKNOWN in text
            one.chat.send("bash: cat effects\nsay: over")
            text = answers(one.over())[-1][1]
        assert not wrongs(one.marks, results, Counter(text.split())), (one.chat.id, results, text)
    wait_until("an empty queue", queue.is_empty, PATIENCE_S)
