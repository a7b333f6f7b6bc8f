"""Servers that people run: listed and called through the connector."""

import subprocess
from pathlib import Path

import pytest
from conftest import PYTHON, free_port, node, texts, use


@pytest.mark.parametrize("transport", ["streamableHttp", "sse"])
def test_everything(start, transport):
    port = free_port()
    url = start(node("mcp-server-everything", transport), port, {"PORT": str(port)})
    path = "/mcp" if transport == "streamableHttp" else "/sse"
    tools, (echo, image) = use(url + path, ("echo", {"message": "hello"}), ("get-tiny-image", {}))
    assert {"echo", "get-tiny-image"} <= set(tools)
    assert texts(echo) == ["Echo: hello"]
    kinds = [block["type"] for block in image["content"]]
    assert "image" in kinds


def test_filesystem_with_sessions(gateway, tmp_path):
    (tmp_path / "a.txt").write_text("in the file")
    url = gateway(node("mcp-server-filesystem", str(tmp_path)), "--stateful")
    tools, (inside, outside) = use(
        url,
        ("read_text_file", {"path": str(tmp_path / "a.txt")}),
        ("read_text_file", {"path": "/etc/passwd"}),
    )
    assert "write_file" in tools
    assert texts(inside) == ["in the file"] and not inside["is_error"]
    assert outside["is_error"]


def test_memory_without_sessions(gateway):
    url = gateway(node("mcp-server-memory"))
    tools, (graph,) = use(url, ("read_graph", {}))
    assert "create_entities" in tools
    assert "entities" in "".join(texts(graph))


def test_git(gateway, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    command = [str(Path(PYTHON).parent / "mcp-server-git"), "--repository", str(tmp_path)]
    tools, (status,) = use(gateway(command), ("git_status", {"repo_path": str(tmp_path)}))
    assert "git_log" in tools
    assert not status["is_error"], status


def test_fastmcp(start):
    port = free_port()
    url = start([PYTHON, str(Path(__file__).parent / "fast.py"), str(port)], port)
    tools, (added, failed) = use(url + "/mcp", ("add", {"a": 2, "b": 3}), ("fail", {}))
    assert tools == ["add", "fail"]
    assert texts(added) == ["5"]
    assert failed["is_error"]
