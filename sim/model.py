"""The model, a process of its own: `python -m sim.model ADDRESS PORT`. A Messages API that follows the plan
in the latest message of the user.

A plan is JSON: `{"plan": ["bash", ["bash", "note"]], "effects": FILE}`, a call or a group of calls for each
turn of the model. As with a real model, asking twice gives two answers: each call carries a mark of its
own (a *nonce*), made at that moment. So whatever was really executed can be held against what the log says
was asked for.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import threading
import time
from typing import Any

from harness.upstream import Answer, Cut, Refuse, Request, Upstream, text, tool

# One request in so many fails: refused, or cut off in its middle.
FAILS = 25
NOTE = "mcp__demo__note"


def call(kind: str, plan: dict[str, Any]) -> dict[str, Any]:
    nonce = secrets.token_hex(8)
    if kind == "note":
        return tool(NOTE, {"text": nonce}, f"toolu_{nonce}")
    if kind == "mark":
        return tool("mark", {"nonce": nonce}, f"toolu_{nonce}")
    # Between the effect and the end a process can die.
    command = f"echo {nonce} >> {plan['effects']}; sleep 0.0{secrets.randbelow(9)}; echo done {nonce}"
    return tool("bash", {"command": command}, f"toolu_{nonce}")


def plan_of(messages: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """The latest plan, and how many turns of the model came after it."""
    turns = 0
    for message in reversed(messages):
        if message["role"] == "assistant":
            turns += 1
            continue
        content = message["content"]
        parts = [content] if isinstance(content, str) else [b["text"] for b in content if b["type"] == "text"]
        for part in reversed(parts):
            if part.startswith('{"plan"'):
                return json.loads(part), turns
    return {"plan": []}, 0


class Planner:
    """Plays the part of a `Script` of the harness."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tokens = 42
        self._random = random.Random(7)
        self._lock = threading.Lock()

    def take(self, request: Request) -> Any:
        with self._lock:
            chance = self._random.random()
        time.sleep(chance / 20)
        plan, turns = plan_of(request.body["messages"])
        steps = plan["plan"]
        offered = {t["name"] for t in request.body.get("tools", [])}
        if chance < 1 / FAILS:
            return Refuse(529, "overloaded_error") if chance < 0.5 / FAILS else Answer([text("cut off"), Cut()])
        if turns >= len(steps):
            return Answer([text("The plan is done.", 4)])
        group = steps[turns] if isinstance(steps[turns], list) else [steps[turns]]
        # A server that cannot be reached offers nothing.
        calls = [call(kind, plan) for kind in group if kind != "note" or NOTE in offered]
        return Answer([text("I go on.", 2), *calls], stop_reason=None if calls else "end_turn")


def main(address: str, port: int) -> None:
    upstream = Upstream((address, port))
    upstream.scripts["plan"] = Planner()  # type: ignore[assignment]
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
