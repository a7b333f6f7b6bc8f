"""A proxy on the worker's host that passes bytes on, answers garbage, or answers nothing."""

from __future__ import annotations

import os
import socket
import threading

from .netns import PORT, SERVER_ADDRESS, Host

CHUNK = 65536
# What looks less and less like an answer.
GARBAGE = [
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"garbage":',
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\nnull",
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<h1>sorry</h1>\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + os.urandom(1000),
    os.urandom(2000),
]


class WireCutter:
    """Listens at `url`, in the network of `host`. `mode` is `pass`, `garbage` or `gone`."""

    def __init__(self, host: Host) -> None:
        self.url = ""
        # Connections that got no honest answer since the mode was set.
        self.refused = 0
        self._mode = "pass"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        listening = threading.Event()
        threading.Thread(target=self._listen, args=(host, listening), daemon=True).start()
        assert listening.wait(30)

    def set(self, mode: str) -> None:
        """Changes what happens from now on, and cuts what is connected."""
        with self._lock:
            self._mode, self.refused = mode, 0
            for end in self._open:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        """Cuts everything; nothing listens any more."""
        self.set("gone")
        self._listener.close()

    def _listen(self, host: Host, listening: threading.Event) -> None:
        host.enter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        listening.set()
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            with self._lock:
                mode = self._mode
                if mode != "pass":
                    number, self.refused = self.refused, self.refused + 1
                self._open.add(client)
            try:
                if mode == "pass":
                    self._pass(client)
                elif mode == "garbage":
                    client.recv(CHUNK)
                    client.sendall(GARBAGE[number % len(GARBAGE)])
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open.discard(client)

    def _pass(self, client: socket.socket) -> None:
        with socket.create_connection((SERVER_ADDRESS, PORT)) as server:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copies until either end is done, then says so to both."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
