"""A server of the newest era, by fastmcp."""

import sys

from fastmcp import FastMCP

server = FastMCP("fast")


@server.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool
def fail() -> str:
    """Fails."""
    raise ValueError("as told")


server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]))
