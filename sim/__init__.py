"""The fault harness: real processes on hosts of their own, faults, and a judge. See README.md."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What starts servers, hosts and databases is the client suite's.
sys.path.insert(0, str(ROOT / "tests/sdk/python"))
