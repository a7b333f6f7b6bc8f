"""Several replicas on one database behind a round-robin proxy, which pass for one server."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from . import postgres
from .server import Server
from .watch import wait_until

# Bodies are buffered: without that nginx keeps a connection for the next request on which it left the
# body of the last unread, if the answer came before it.
NGINX = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
worker_processes 1;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream replicas {{
{servers}
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    large_client_header_buffers 8 64k;
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_read_timeout 1h;
      proxy_next_upstream error timeout non_idempotent;
    }}
  }}
}}
"""


def wanted() -> int:
    """How many replicas stand for a server (`FREEHOLD_TEST_REPLICAS`); 0: it is one process."""
    return int(os.environ.get("FREEHOLD_TEST_REPLICAS", "0"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Replicas(Server):
    """Requests go to one replica after the other, each with a data directory of its own."""

    def __init__(self, folder: Path, model_url: str | None, config: str, **settings: Any) -> None:
        keys = folder / "master.key"
        if not keys.exists():
            keys.write_text(secrets.token_hex(32))
        config += f'\n[secrets]\nkey_file = "{keys}"\n'
        database = postgres.cluster().database()
        self.key = settings.get("key", "sk-fh-python-sdk-tests")
        self.folder = folder
        self.replicas: list[Server] = []
        for n in range(wanted()):
            part = folder / f"r{n}"
            part.mkdir()
            (folder / "blobs").mkdir(exist_ok=True)
            (part / "data").mkdir(mode=0o700)
            (part / "data/blobs").symlink_to(folder / "blobs")
            self.replicas.append(_Replica(part, model_url, config, database=database, **settings))
        self.proxy: subprocess.Popen[bytes] | None = None
        self._route()

    def _route(self) -> None:
        self.proxy_port = free_port()
        servers = "\n".join(f"    server {r.url.removeprefix('http://')} max_fails=0;" for r in self.replicas)
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(user=getpass.getuser(), folder=self.folder, servers=servers, port=self.proxy_port))
        self.proxy = subprocess.Popen(["nginx", "-c", str(config), "-p", str(self.folder)], stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.proxy_port}"

        def listens() -> bool:
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.proxy_port)) == 0

        wait_until("the proxy", listens)
        # Until then previews do not reach from one to the other.
        wait_until("the replicas to meet", lambda: all(r.has_met() for r in self.replicas))

    def _unroute(self) -> None:
        if self.proxy:
            self.proxy.terminate()
            self.proxy.wait(30)
            self.proxy = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.replicas[0].process

    @property
    def log(self) -> Path:
        """What all replicas wrote."""
        both = self.folder / "server.log"
        both.write_bytes(b"".join(r.log.read_bytes() for r in self.replicas))
        return both

    def start(self) -> None:
        for replica in self.replicas:
            replica.start()
        self._route()

    def stop(self) -> int:
        # Together, as a deployment would be taken down; a rolling restart is a test of its own.
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda r=r: statuses.append(r.stop())) for r in self.replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._unroute()
        return max(statuses) if len(statuses) == len(self.replicas) else 1

    def kill(self) -> None:
        for replica in self.replicas:
            replica.kill()
        self._unroute()

    def complaints(self) -> list[str]:
        return [line for replica in self.replicas for line in replica.complaints()]


class _Replica(Server):
    def has_met(self) -> bool:
        """Whether it has connected to another since it was started last."""
        log = self.log.read_text(errors="replace")
        return log.rfind("connected to a replica") > log.rfind("other replicas reach this one") >= 0
