"""A throw-away PostgreSQL server, for suites that run on it (`FREEHOLD_TEST_STORE=postgres`)."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from .watch import PATIENCE_S


def wanted() -> bool:
    return os.environ.get("FREEHOLD_TEST_STORE") == "postgres"


def program(name: str) -> str:
    """Debian keeps the server's programs apart."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise RuntimeError(f"{name} is missing: `cargo xtask test` installs PostgreSQL")
    return str(found[-1])


def unprivileged(name: str) -> list[str]:
    """PostgreSQL does not run as root, and must not outlive the tests."""
    prefix = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        prefix += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*prefix, program(name)]


class Cluster:
    """Listens on a socket in a temporary folder only."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fh-pg"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._made = 0
        self._data = str(self.folder / "data")
        initdb = ["-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"]
        subprocess.run([*unprivileged("initdb"), *initdb], check=True, capture_output=True, cwd="/")
        self.start()
        atexit.register(self.remove)

    def start(self) -> None:
        options = ["-D", self._data, "-k", str(self.folder), "-h", "", "-F", "-c", "max_connections=300"]
        self.server = subprocess.Popen(
            [*unprivileged("postgres"), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        until = time.monotonic() + PATIENCE_S
        while subprocess.run([program("pg_isready"), "-q", "-h", str(self.folder)]).returncode != 0:
            assert self.server.poll() is None and time.monotonic() < until, "PostgreSQL did not start"

    def stop(self) -> None:
        """Ends it as a power cut would."""
        stop = ["stop", "-s", "-m", "immediate", "-D", self._data]
        subprocess.run([*unprivileged("pg_ctl"), *stop], check=True, cwd="/")
        self.server.wait(PATIENCE_S)

    def remove(self) -> None:
        if self.server.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """A new, empty database; its URL."""
        self._made += 1
        name = f"f{self._made}"
        create = ["-h", str(self.folder), "-U", "postgres", "-qc", f"CREATE DATABASE {name}"]
        subprocess.run([program("psql"), *create], check=True)
        return f"host={self.folder} user=postgres dbname={name}"


@cache
def cluster() -> Cluster:
    """The one of this test run."""
    return Cluster()
