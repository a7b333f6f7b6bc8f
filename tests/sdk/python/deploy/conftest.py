"""What stands in `deploy/`, as the programs that would use it read it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[4]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/freehold"
HERE = Path(__file__).parent


def program(name: str) -> str:
    """One that a package of this environment brought."""
    return str(Path(sys.executable).parent / name)


def ran(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


def must(command: list[str], **more: Any) -> str:
    done = ran(command, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def freehold(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FREEHOLD_", "ANTHROPIC_", "AWS_"))}
    return ran([os.environ["FREEHOLD_BIN"], *arguments], env=clean)


def usable(config: str, folder: Path) -> None:
    """The binary takes this configuration: every key is one it knows, every value one it can use."""
    file = folder / "freehold.toml"
    file.write_text(config)
    # Status 2 is said of arguments and configuration alone; that this host is not that network is no
    # matter. Nothing is looked for in object storage that is not there.
    done = freehold(
        "doctor", "--json", "--config", str(file), "--data-dir", str(folder), "--sandbox", "process", "--blobs", ""
    )
    assert done.returncode in (0, 1), f"{config}\n{done.stderr}"
    assert "can be used" in done.stdout


def flags(*command: str) -> set[str]:
    """Those the binary's help of a command names."""
    help_text = freehold(*command, "--help")
    assert help_text.returncode == 0, help_text.stderr
    return set(re.findall(r"--[a-z][a-z-]+", help_text.stdout))


def knows(arguments: list[str]) -> None:
    """The binary has this command with these flags."""
    command = [a for a in arguments[:2] if not a.startswith("-")]
    unknown = {a for a in arguments if a.startswith("--")} - flags(*command)
    assert not unknown, (command, unknown)


def documents(text: str) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(text) if d]


@pytest.fixture(scope="session")
def helm() -> str:
    return os.environ["HELM"]
