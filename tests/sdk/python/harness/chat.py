"""A session as a test sees it."""

from __future__ import annotations

from typing import Any

from . import history
from .watch import Watch


def user(value: str) -> dict[str, Any]:
    """A `user.message` of one text block."""
    return {"type": "user.message", "content": [{"type": "text", "text": value}]}


class Chat:
    """One session, with the few calls every test makes."""

    def __init__(self, client: Any, session: Any) -> None:
        self.client = client
        self.id = session.id
        self.created = session
        self.events = client.beta.sessions.events

    def watch(self, *deltas: str) -> Watch:
        """Opens the event stream."""
        extra = {"event_deltas": list(deltas)} if deltas else {}
        return Watch(lambda: self.events.stream(self.id, **extra))

    def send(self, *events: dict[str, Any] | str) -> Any:
        """Sends events; a plain string is a user message."""
        return self.events.send(self.id, events=[user(e) if isinstance(e, str) else e for e in events])

    def turn(self, *events: dict[str, Any] | str) -> Watch:
        """Sends, waits for the turn to end, and gives back what the stream showed."""
        watch = self.watch()
        try:
            self.send(*events)
            watch.idle()
        finally:
            watch.close()
        return watch

    def answer(self, *events: dict[str, Any] | str) -> str:
        """The text of the turn's last message."""
        return last_text(self.turn(*events).seen)

    def history(self, **query: Any) -> list[Any]:
        """All persisted events, through every page."""
        return list(self.events.list(self.id, **query))

    def get(self) -> Any:
        """The session."""
        return self.client.beta.sessions.retrieve(self.id)

    def check(self) -> None:
        """The invariants every history has to keep."""
        history.check(self.history())


def texts(event: Any) -> str:
    """The text of an event's content."""
    return "".join(block.text for block in event.content or [] if block.type == "text")


def last_text(events: list[Any]) -> str:
    """The text of the last `agent.message`."""
    return texts([e for e in events if e.type == "agent.message"][-1])


def of(events: list[Any], kind: str) -> list[Any]:
    """Events of one type."""
    return [e for e in events if e.type == kind]
