"""Replicas that are started, addressed and stopped as one server is: for suites in other languages.

`python -m harness.as_one serve --config FILE …` says where they listen, as the server does, runs until it
is told to end, and then passes on what they logged.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from .replicas import Replicas


def main() -> int:
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    folder = config.parent / "replicas"
    folder.mkdir()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    replicas = Replicas(folder, None, config.read_text(), key=os.environ["FREEHOLD_BOOTSTRAP_KEY"])
    print(f"listening on {replicas.url}", file=sys.stderr, flush=True)
    ended.wait()
    status = replicas.stop()
    sys.stderr.write(replicas.log.read_text(errors="replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
