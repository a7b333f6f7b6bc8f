"""The judge. It sees nothing but a `Record`, so that a record can be spoiled to see whether it notices
(`mutations.py`). One function for each property; each gives what is wrong, in words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from harness import history
from harness.history import RESULTS, USES

from .clients import at_rest

# What an error says that leaves open whether the call ran; an interrupt comes at any moment.
OPEN = ("unknown", "interrupted")

Events = list[dict[str, Any]]


@dataclass
class Record:
    """What clients, tools and the database have to say when all is over."""

    sessions: dict[str, dict[str, Any]]  # id: workspace, kind
    logs: dict[str, Events]  # The complete history of each session.
    again: list[dict[str, Any]]  # replica, session, events: ids, as each replica lists them at the end.
    listings: list[dict[str, Any]]  # session, events: ids, as listed meanwhile.
    streams: list[dict[str, Any]]  # session, listed, seen: ids; open: whether it was followed to the end.
    acked: list[dict[str, Any]]  # session, event, mark, in the order of the answers.
    attempts: list[dict[str, Any]]  # session, mark, posts: how often the input was sent.
    interrupts: list[dict[str, Any]]  # session, event: those that were acknowledged.
    effects: list[str]  # Marks that calls have left, one for each time that they ran.
    peeks: list[dict[str, Any]]  # What one workspace's key saw of the other's.
    rows: dict[str, dict[str, int]] = field(default_factory=dict)  # What the database itself has.
    broken: list[str] = field(default_factory=list)  # Clients and processes that broke.


def text_of(event: dict[str, Any]) -> str:
    return "".join(block.get("text", "") for block in event.get("content") or [])


def mark_of(event: dict[str, Any]) -> str:
    return str(json.loads(text_of(event)).get("mark"))


def nonce_of(call: dict[str, Any]) -> str:
    given = call["input"]
    if "command" in given:
        return given["command"].split()[1]
    return given.get("nonce") or given.get("text")


def inputs(record: Record) -> Iterator[str]:
    """Acknowledged inputs are there once, in order; no input is there more often than it was sent."""
    places = {s: {e["id"]: i for i, e in enumerate(log)} for s, log in record.logs.items()}
    last: dict[str, int] = {}
    for ack in record.acked:
        place = places[ack["session"]].get(ack["event"])
        if place is None:
            yield f"{ack['mark']}: acknowledged as {ack['event']} and not in the log"
            continue
        if mark_of(record.logs[ack["session"]][place]) != ack["mark"]:
            yield f"{ack['event']}: another content than {ack['mark']}"
        if place <= last.get(ack["session"], -1):
            yield f"{ack['mark']}: before an input that was acknowledged before it was sent"
        last[ack["session"]] = place
    for ack in record.interrupts:
        if ack["event"] not in places[ack["session"]]:
            yield f"{ack['session']}: the interrupt {ack['event']} was acknowledged and is not in the log"
    sent = {attempt["mark"]: attempt["posts"] for attempt in record.attempts}
    there = Counter(mark_of(e) for log in record.logs.values() for e in log if e["type"] == "user.message")
    for mark, times in there.items():
        if times > sent.get(mark, 0):
            yield f"{mark}: {times} times in the log, sent {sent.get(mark, 0)} times"


def log(record: Record) -> Iterator[str]:
    """Each log is well formed and has no gap, everybody sees the same, and what was seen never changes."""
    for session, events in record.logs.items():
        try:
            history.check(json.loads(json.dumps(events), object_hook=lambda d: SimpleNamespace(**({"content": None} | d))))
        except history.BrokenHistory as broken:
            yield f"{session}: {str(broken).splitlines()[0]}"
    for seen in record.again:
        if seen["events"] != [e["id"] for e in record.logs[seen["session"]]]:
            yield f"{seen['session']}: replica {seen['replica']} lists something else"
    for seen in record.listings:
        ids = [e["id"] for e in record.logs[seen["session"]]]
        if seen["events"] != ids[: len(seen["events"])]:
            yield f"{seen['session']}: a listing of {len(seen['events'])} events is no prefix of the log"
    for session, row in record.rows.items():
        if session not in record.logs:
            continue
        n = sum(bool(e.get("processed_at")) for e in record.logs[session])
        if not (row["events"] == row["head"] == row["last"] == n and row["first"] == 1):
            yield f"{session}: {n} events are listed, and the database has {row}"
        if row["stale"]:
            yield f"{session}: {row['stale']} events under a lease that was over"


def results(record: Record) -> Iterator[str]:
    """Each tool use has one result."""
    for session, events in record.logs.items():
        answers = Counter(e[RESULTS[e["type"]]] for e in events if e["type"] in RESULTS)
        for event in events:
            if event["type"] in USES and answers[event["id"]] != 1:
                yield f"{session}: {answers[event['id']]} results for {event['id']}"


def effects(record: Record) -> Iterator[str]:
    """What ran was asked for, and ran at most once; once, if its result says that it ran; not at all,
    if its result is an error that does not say that the outcome is unknown."""
    ran = Counter(record.effects)
    asked: set[str] = set()
    for session, events in record.logs.items():
        found = {e[RESULTS[e["type"]]]: e for e in events if e["type"] in RESULTS}
        for call in (e for e in events if e["type"] in USES):
            nonce = nonce_of(call)
            if nonce in asked:
                yield f"{session}: {nonce} is asked for twice"
            asked.add(nonce)
            if ran[nonce] > 1:
                yield f"{session}: {nonce} ran {ran[nonce]} times"
            result = found.get(call["id"])
            if result is None:
                continue
            if result.get("is_error"):
                if ran[nonce] and not any(word in text_of(result) for word in OPEN):
                    yield f"{session}: {nonce} ran, and was answered with: {text_of(result)[:120]}"
                continue
            if ran[nonce] != 1:
                yield f"{session}: {nonce} was answered with success and ran {ran[nonce]} times"
            if nonce not in text_of(result):
                yield f"{session}: {nonce} was answered with another call's result: {text_of(result)[:80]}"
    for nonce in ran.keys() - asked:
        yield f"{nonce} ran, and no log asks for it"


def endings(record: Record) -> Iterator[str]:
    """Every session comes to rest when the faults are over."""
    for session in record.sessions:
        if session not in record.logs:
            yield f"{session}: its history cannot be had"
        elif not at_rest(record.logs[session]):
            yield f"{session}: not at rest; its last events are {[e['type'] for e in record.logs[session][-4:]]}"


def streams(record: Record) -> Iterator[str]:
    """What one connection shows, after what was listed when it was made, is the log without a hole; and a
    connection that is still open has all of it."""
    for stream in record.streams:
        events = record.logs[stream["session"]]
        place = {e["id"]: i for i, e in enumerate(events)}
        who = f"{stream['session']}: a stream"
        if unknown := [e for e in stream["seen"] if e not in place]:
            yield f"{who} showed {unknown[0]}, which is not in the log"
            continue
        listed = [place[e] for e in stream["listed"] if e in place]
        seen = [place[e] for e in stream["seen"]]
        after = max(listed, default=-1)
        if seen and seen != list(range(seen[0], seen[0] + len(seen))):
            yield f"{who} has a hole or a repetition: {seen}"
        elif seen and seen[0] > after + 1:
            yield f"{who} begins at {seen[0]}, and {after} was the last that was listed"
        elif stream["open"] and max([after, *seen[-1:]]) != sum(bool(e.get("processed_at")) for e in events) - 1:
            yield f"{who} stayed open and ends at {max([after, *seen[-1:]])} of {len(events)} events"


def isolation(record: Record) -> Iterator[str]:
    """Nobody sees what is another workspace's."""
    for peek in record.peeks:
        if peek.get("visible"):
            yield f"{peek['session']} is visible to {peek['workspace']} ({peek['what']})"
        for session in peek.get("listed", []):
            owner = record.sessions.get(session, {}).get("workspace", peek["workspace"])
            if owner != peek["workspace"]:
                yield f"{session} of {owner} is listed to {peek['workspace']}"


def processes(record: Record) -> Iterator[str]:
    """No client met what it must not meet, and nothing panicked."""
    yield from record.broken


def work(record: Record) -> Iterator[str]:
    """There was something to judge."""
    counts = Counter(e["type"] for events in record.logs.values() for e in events)
    for what, count in {
        "input": len(record.acked),
        "tool use": sum(counts[kind] for kind in USES),
        "effect": len(record.effects),
        "idle": counts["session.status_idle"],
        "stream": len(record.streams),
        "look at another workspace": len(record.peeks),
    }.items():
        if count == 0:
            yield f"no {what} at all: nothing is shown"


PROPERTIES: dict[str, Callable[[Record], Iterator[str]]] = {
    "inputs": inputs,
    "log": log,
    "results": results,
    "effects": effects,
    "endings": endings,
    "streams": streams,
    "isolation": isolation,
    "processes": processes,
    "work": work,
}


def judge(record: Record) -> dict[str, list[str]]:
    """What is wrong, by property."""
    found = {name: list(check(record)) for name, check in PROPERTIES.items()}
    return {name: wrongs for name, wrongs in found.items() if wrongs}


def counts(record: Record) -> Counter[str]:
    """What there was to judge."""
    seen: Counter[str] = Counter(inputs=len(record.acked), streams=len(record.streams))
    for events in record.logs.values():
        seen["events"] += len(events)
        found = {e[RESULTS[e["type"]]]: e for e in events if e["type"] in RESULTS}
        for event in events:
            if event["type"] == "session.error":
                seen[event["error"]["type"]] += 1
            if event["type"] not in USES:
                continue
            seen["calls"] += 1
            seen[f"calls of {event['name']}"] += 1
            result = found.get(event["id"])
            if result is not None and result.get("is_error"):
                seen["unknown" if "unknown" in text_of(result) else "failed"] += 1
    return seen


def failures(record: Record) -> Counter[str]:
    """What calls failed with, without the marks."""
    results = (e for events in record.logs.values() for e in events if e["type"] in RESULTS and e.get("is_error"))
    return Counter(re.sub("[0-9a-f]{16}", "…", text_of(e))[:160] for e in results)
