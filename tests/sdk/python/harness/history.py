"""What must hold for the history of every session, whatever happened in it (contract 40)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

USES = {"agent.tool_use", "agent.custom_tool_use", "agent.mcp_tool_use"}
RESULTS = {
    "agent.tool_result": "tool_use_id",
    "user.tool_result": "tool_use_id",
    "user.custom_tool_result": "custom_tool_use_id",
    "agent.mcp_tool_result": "mcp_tool_use_id",
}


class BrokenHistory(AssertionError):
    """An invariant does not hold."""


def _moment(at: Any) -> datetime:
    """As text, times cannot be compared: the SDK leaves out a fraction that is zero."""
    return at if isinstance(at, datetime) else datetime.fromisoformat(at)


def check(events: list[Any]) -> None:
    """Raises if the history breaks an invariant."""
    types = [e.type for e in events]

    def broken(what: str) -> BrokenHistory:
        return BrokenHistory(f"{what}\n" + "\n".join(f"{i} {e.type} {e.id}" for i, e in enumerate(events)))

    ids = [e.id for e in events]
    if len(set(ids)) != len(ids):
        raise broken("an event is listed twice")
    if "event_start" in types or "event_delta" in types:
        raise broken("previews are never part of the history")
    times = [_moment(e.processed_at) for e in events if e.processed_at is not None]
    for before, after in zip(times, times[1:]):
        if after < before:
            raise broken(f"processed_at goes backwards, from {before} to {after}")
    _turns(events, broken)
    _calls(events, broken)
    _spans(events, broken)


def _turns(events: list[Any], broken: Any) -> None:
    for i, event in enumerate(events):
        if event.type != "session.status_idle":
            continue
        if i == 0 or events[i - 1].type != "session.usage":
            raise broken(f"idle at {i} is not directly preceded by session.usage")
        later = events[i + 1] if i + 1 < len(events) else None
        allowed = {
            "user.message",
            "user.interrupt",
            "user.tool_confirmation",
            "user.tool_result",
            "user.custom_tool_result",
            "user.define_outcome",
            "system.message",
            "session.status_running",
            "session.status_terminated",
            "session.thread_status_terminated",
            "session.updated",
            "session.usage",
        }
        if later is not None and later.type not in allowed:
            raise broken(f"{later.type} follows an idle: idle is the last event of a turn")


def _calls(events: list[Any], broken: Any) -> None:
    at = {e.id: i for i, e in enumerate(events)}
    answered: dict[str, int] = {}
    for i, event in enumerate(events):
        name = RESULTS.get(event.type)
        if name is None:
            continue
        call = getattr(event, name)
        if call not in at or i < at[call] or events[at[call]].type not in USES:
            raise broken(f"result at {i} has no call before it")
        if call in answered:
            raise broken(f"call {call} was answered at {answered[call]} and again at {i}")
        answered[call] = i


def _spans(events: list[Any], broken: Any) -> None:
    open_: set[str] = set()
    for i, event in enumerate(events):
        if event.type == "span.model_request_start":
            open_.add(event.id)
        elif event.type == "span.model_request_end":
            if event.model_request_start_id not in open_:
                raise broken(f"model request ended at {i} without having begun")
            open_.remove(event.model_request_start_id)
        elif event.type == "session.status_idle" and open_:
            raise broken(f"idle at {i} with a model request open")
