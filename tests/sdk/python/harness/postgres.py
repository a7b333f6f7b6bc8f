"""A throw-away PostgreSQL server, for suites that run on it (`FREEHOLD_TEST_STORE=postgres`)."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from .netns import Host
from .watch import PATIENCE_S, wait_until


def wanted() -> bool:
    return os.environ.get("FREEHOLD_TEST_STORE") == "postgres"


def program(name: str) -> str:
    """Debian keeps the server's programs apart."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise RuntimeError(f"{name} is missing: `cargo xtask test` installs PostgreSQL")
    return str(found[-1])


def unprivileged(*command: str) -> list[str]:
    """PostgreSQL does not run as root, and must not outlive the tests."""
    prefix = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        prefix += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*prefix, *command]


class Cluster:
    """Listens on a socket in a temporary folder only; or besides on an address of another host."""

    def __init__(self, host: Host | None = None, address: str = "", folder: Path | None = None) -> None:
        self._before = host.command() if host else []
        self._address = address
        self.folder = folder or Path(tempfile.mkdtemp(prefix="fh-pg"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.env: dict[str, str] = {}
        self._made = 0
        self._data = str(self.folder / "data")
        initdb = ["-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"]
        subprocess.run(unprivileged(program("initdb"), *initdb), check=True, capture_output=True, cwd="/")
        if address:
            with open(f"{self._data}/pg_hba.conf", "a") as rules:
                rules.write(f"host all all {address}/24 trust\n")
        self.start()
        atexit.register(self.remove)

    def start(self) -> None:
        options = ["-D", self._data, "-k", str(self.folder), "-h", self._address, "-F", "-c", "max_connections=300"]
        # Given to it alone, and not to what makes it another user's.
        settings = [f"{name}={value}" for name, value in self.env.items()]
        self.server = subprocess.Popen(
            [*self._before, *unprivileged("env", *settings, program("postgres"), *options)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        until = time.monotonic() + PATIENCE_S
        while subprocess.run([program("pg_isready"), "-q", "-h", str(self.folder)]).returncode != 0:
            assert self.server.poll() is None and time.monotonic() < until, "PostgreSQL did not start"

    def stop(self, mode: str = "immediate") -> None:
        """Ends it as a power cut would, or politely (`fast`)."""
        stop = ["stop", "-s", "-m", mode, "-D", self._data]
        subprocess.run(unprivileged(program("pg_ctl"), *stop), check=True, cwd="/")
        self.server.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL to the server and every process it has made."""
        made = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text().split()
        self.server.kill()
        for child in map(int, made):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.server.wait(PATIENCE_S)
        # Its shared memory is in use until the last of them is gone.
        wait_until("the end of PostgreSQL", lambda: not any(Path(f"/proc/{child}").exists() for child in made))

    def remove(self) -> None:
        if self.server.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def query(self, text: str, database: str = "postgres") -> list[list[str]]:
        """Runs it; the rows of its answer, without their types."""
        psql = [program("psql"), "-h", str(self.folder), "-U", "postgres", "-d", database, "-qAtc", text]
        done = subprocess.run(psql, check=True, capture_output=True, text=True)
        return [line.split("|") for line in done.stdout.splitlines()]

    def database(self) -> str:
        """A new, empty database; its URL."""
        self._made += 1
        name = f"f{self._made}"
        self.query(f"CREATE DATABASE {name}")
        if self._address:
            return f"postgres://postgres@{self._address}/{name}?sslmode=disable"
        return f"host={self.folder} user=postgres dbname={name}"


@cache
def cluster() -> Cluster:
    """The one of this test run."""
    return Cluster()
