"""An S3 server of the test's own: `s3/server.py` in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "s3" / "server.py"


class Storage:
    """Starts in the constructor; `close` ends it."""

    def __init__(self) -> None:
        python = os.environ.get("S3_PYTHON")
        if not python:
            raise RuntimeError("S3_PYTHON must name an interpreter with moto; `cargo xtask test --only python` sets it")
        self._process = subprocess.Popen(
            [python, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ready = self._read()
        self.bucket: str = ready["bucket"]
        self.endpoint: str = ready["endpoint"]
        self.key: list[str] = ready["all"]

    def objects(self) -> set[str]:
        """Names of all objects; nothing may be half uploaded."""
        assert self._process.stdin is not None
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        found = self._read()
        assert found["uploads"] == []
        return set(found["objects"])

    def config(self, folder: Path, bucket: str | None = None) -> str:
        """The table of a server's configuration; its secret goes into the folder."""
        secret = folder / "s3.key"
        secret.write_text(self.key[1] + "\n")
        return f"""
[storage]
blobs = "s3://{bucket or self.bucket}/files"
endpoint = "{self.endpoint}"
access_key_id = "{self.key[0]}"
secret_key_file = "{secret}"
"""

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
