"""Spoiled records: for each property, what a broken system would have left behind. The judge has to say no to
each of them, for the right reason, and yes to the record as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from harness.history import RESULTS, USES

from .checker import Record, judge, nonce_of


def _log(record: Record) -> list[dict[str, Any]]:
    """The log with the most to spoil."""
    return max(record.logs.values(), key=lambda events: sum(e["type"] in USES for e in events))


def _result(record: Record) -> tuple[int, dict[str, Any]]:
    log = _log(record)
    return next((i, e) for i, e in enumerate(log) if e["type"] in RESULTS and not e.get("is_error"))


def _call(record: Record) -> dict[str, Any]:
    result = _result(record)[1]
    return next(e for e in _log(record) if e["id"] == result[RESULTS[result["type"]]])


def _stream(record: Record) -> dict[str, Any]:
    return max(record.streams, key=lambda stream: len(stream["seen"]))


def lost_input(record: Record) -> None:
    ack = record.acked[-1]
    log = record.logs[ack["session"]]
    log[:] = [e for e in log if e["id"] != ack["event"]]


def lost_interrupt(record: Record) -> None:
    record.interrupts.append({"session": record.acked[0]["session"], "event": "sevt_interrupt"})


def doubled_input(record: Record) -> None:
    ack = record.acked[0]
    log = record.logs[ack["session"]]
    copy_of = next(e for e in log if e["id"] == ack["event"])
    posts = next(a["posts"] for a in record.attempts if a["mark"] == ack["mark"])
    log.extend(copy_of | {"id": f"sevt_double{n}"} for n in range(posts))


def swapped_inputs(record: Record) -> None:
    session = record.acked[0]["session"]
    first, second = [a for a in record.acked if a["session"] == session][:2]
    first["event"], second["event"] = second["event"], first["event"]
    first["mark"], second["mark"] = second["mark"], first["mark"]


def event_listed_twice(record: Record) -> None:
    log = _log(record)
    log.append(log[0])


def gap_in_the_database(record: Record) -> None:
    next(iter(record.rows.values()))["last"] += 1


def write_under_an_old_lease(record: Record) -> None:
    next(iter(record.rows.values()))["stale"] += 1


def replica_that_differs(record: Record) -> None:
    next(seen for seen in record.again if seen["events"])["events"].pop()


def listing_that_changed(record: Record) -> None:
    events = max(record.listings, key=lambda seen: len(seen["events"]))["events"]
    events[0], events[-1] = events[-1], events[0]


def call_without_result(record: Record) -> None:
    del _log(record)[_result(record)[0]]


def two_results(record: Record) -> None:
    place, result = _result(record)
    _log(record).insert(place, result | {"id": "sevt_again"})


def effect_that_ran_twice(record: Record) -> None:
    record.effects.append(nonce_of(_call(record)))


def effect_that_never_was(record: Record) -> None:
    record.effects.remove(nonce_of(_call(record)))


def failure_that_ran(record: Record) -> None:
    result = _result(record)[1]
    result["is_error"], result["content"] = True, [{"type": "text", "text": "It failed."}]


def effect_nobody_asked_for(record: Record) -> None:
    record.effects.append("0" * 16)


def session_that_hangs(record: Record) -> None:
    log = _log(record)
    while log[-1]["type"] != "session.status_running":
        log.pop()


def hole_in_a_stream(record: Record) -> None:
    seen = _stream(record)["seen"]
    del seen[len(seen) // 2]


def stream_that_repeats(record: Record) -> None:
    seen = _stream(record)["seen"]
    seen.insert(1, seen[0])


def stream_with_a_phantom(record: Record) -> None:
    _stream(record)["seen"].append("sevt_phantom")


def hole_after_the_listing(record: Record) -> None:
    stream = _stream(record)
    last = stream["seen"][-1]
    log = record.logs[stream["session"]]
    stream["seen"] = [last]
    before = next(i for i, e in enumerate(log) if e["id"] == last)
    stream["listed"] = [e["id"] for e in log[: before - 1]]


def stream_that_went_silent(record: Record) -> None:
    # Open to the end, and without the last event.
    stream = next(s for s in record.streams if s["open"] and record.logs[s["session"]])
    last = record.logs[stream["session"]][-1]["id"]
    for key in ("seen", "listed"):
        stream[key] = [e for e in stream[key] if e != last]


def session_seen_by_another(record: Record) -> None:
    next(p for p in record.peeks if "visible" in p)["visible"] = True


def session_listed_to_another(record: Record) -> None:
    session, about = next(iter(record.sessions.items()))
    other = next(p for p in record.peeks if "listed" in p and p["workspace"] != about["workspace"])
    other["listed"].append(session)


def panic(record: Record) -> None:
    record.broken.append("panicked at …")


def nothing_happened(record: Record) -> None:
    record.effects.clear()


# What is done to the record, and the property that has to notice it.
MUTATIONS: list[tuple[Callable[[Record], None], str]] = [
    (lost_input, "inputs"),
    (lost_interrupt, "inputs"),
    (doubled_input, "inputs"),
    (swapped_inputs, "inputs"),
    (event_listed_twice, "log"),
    (gap_in_the_database, "log"),
    (write_under_an_old_lease, "log"),
    (replica_that_differs, "log"),
    (listing_that_changed, "log"),
    (call_without_result, "results"),
    (two_results, "results"),
    (effect_that_ran_twice, "effects"),
    (effect_that_never_was, "effects"),
    (failure_that_ran, "effects"),
    (effect_nobody_asked_for, "effects"),
    (session_that_hangs, "endings"),
    (hole_in_a_stream, "streams"),
    (stream_that_repeats, "streams"),
    (stream_with_a_phantom, "streams"),
    (hole_after_the_listing, "streams"),
    (stream_that_went_silent, "streams"),
    (session_seen_by_another, "isolation"),
    (session_listed_to_another, "isolation"),
    (panic, "processes"),
    (nothing_happened, "work"),
]


def unnoticed(record: Record) -> list[str]:
    """The mutations that the judge let pass; the record itself has to be good."""
    found = []
    for mutate, noticed_by in MUTATIONS:
        spoiled = copy.deepcopy(record)
        mutate(spoiled)
        if noticed_by not in judge(spoiled):
            found.append(f"{mutate.__name__} was not noticed by `{noticed_by}`")
    return found
