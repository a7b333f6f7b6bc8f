"""Bounded waits on events: no sleeps, no open-ended reads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Longest wait for anything. Generous, because the machine may be slow; nothing is measured by it.
PATIENCE_S = 60.0


class Gone(AssertionError):
    """What was waited for did not happen."""


def wait_until(what: str, condition: Callable[[], Any], patience: float = PATIENCE_S) -> Any:
    """Asks again and again, for state that no event announces (output files appear with a lag)."""
    pause = threading.Event()
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Gone(f"waited {patience} s for: {what}")
        pause.wait(0.05)


def shut(stream: Any) -> None:
    """Ends a stream that another thread reads: the socket is shut, so that it wakes up."""
    network = stream.response.extensions.get("network_stream")
    raw = network.get_extra_info("socket") if network is not None else None
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)


class Watch:
    """Reads one event stream in a thread and lets a test wait for what it needs.

    By the time the constructor returns the response headers are here, so the server has
    subscribed: nothing sent afterwards can be missed.
    """

    def __init__(self, open_stream: Callable[[], Any]) -> None:
        self._stream = open_stream()
        self.seen: list[Any] = []
        self.error: BaseException | None = None
        self.ended = False
        self._changed = threading.Condition()
        self._cursor = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._stream:
                with self._changed:
                    self.seen.append(event)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting test
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def until(self, what: str | Callable[[Any], bool], patience: float = PATIENCE_S) -> Any:
        """The next event (after the last one found) of this type, or for which this holds."""
        matches = (lambda e: e.type == what) if isinstance(what, str) else what
        end = time.monotonic() + patience
        with self._changed:
            while True:
                while self._cursor < len(self.seen):
                    event = self.seen[self._cursor]
                    self._cursor += 1
                    if matches(event):
                        return event
                if self.error is not None:
                    raise self.error
                if self.ended:
                    raise Gone(f"stream ended before {what}; saw {self.types()}")
                if not self._changed.wait(end - time.monotonic()):
                    raise Gone(f"waited {patience} s for {what}; saw {self.types()}")

    def idle(self, patience: float = PATIENCE_S) -> Any:
        """The next `session.status_idle`."""
        return self.until("session.status_idle", patience)

    def end(self, patience: float = PATIENCE_S) -> None:
        """Waits for the server to end the stream."""
        self._thread.join(patience)
        if self._thread.is_alive():
            raise Gone(f"stream did not end; saw {self.types()}")
        if self.error is not None:
            raise self.error

    def types(self) -> list[str]:
        """Types seen so far."""
        return [e.type for e in self.seen]

    def of(self, kind: str) -> list[Any]:
        """Events of one type seen so far."""
        return [e for e in self.seen if e.type == kind]

    def close(self) -> None:
        """Leaves, as a client that disconnects does."""
        shut(self._stream)
        self._thread.join(PATIENCE_S)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.seen)
