"""Custom tools, confirmation, parallel calls, the SDK's own tool runner."""

import asyncio
import json
import re

import anthropic
import pytest
from anthropic.lib.tools import beta_async_tool

from conftest import TOOLSET
from harness.chat import last_text, of, texts
from harness.upstream import tool

WEATHER = {
    "type": "custom",
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASK = TOOLSET | {"default_config": {"permission_policy": {"type": "always_ask"}}}


def result(id, text, **more):
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": id,
        "content": [{"type": "text", "text": text}],
    } | more


def verdict(id, result, **more):
    return {"type": "user.tool_confirmation", "tool_use_id": id, "result": result} | more


def tool_result_of(request, index=-1):
    """The tool results that a model request carried in its last user turn."""
    return [b for b in request.body["messages"][index]["content"] if b["type"] == "tool_result"]


def test_custom_tool_loop(chat, script):
    script.say("Let me look.", tool("get_weather", {"city": "Oslo"}, id="toolu_weather"))
    script.say("It is cold in Oslo.")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        use = watch.until("agent.custom_tool_use")
        assert (use.name, use.input) == ("get_weather", {"city": "Oslo"})
        idle = watch.idle()
        assert idle.stop_reason.type == "requires_action"
        assert idle.stop_reason.event_ids == [use.id]
        assert session.get().status == "idle"
        session.send(result(use.id, "-5 C"))
        watch.until("session.status_running")
        assert watch.idle().stop_reason.type == "end_turn"
    assert last_text(watch.seen) == "It is cold in Oslo."
    (sent,) = tool_result_of(script.requests[1])
    assert sent["tool_use_id"] == "toolu_weather"
    assert "-5 C" in json.dumps(sent["content"])


def test_custom_tool_result_before_the_idle(chat, script):
    gate = script.gate()
    script.say(tool("get_weather", {"city": "Rome"}), gate)
    script.say("warm")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        gate.wait_reached()
        gate.open()
        use = watch.until("agent.custom_tool_use")
        session.send(result(use.id, "25 C"))
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
    assert last_text(watch.seen) == "warm"


def test_answering_a_part_leaves_the_rest_waiting(chat, script):
    script.say(tool("get_weather", {"city": "A"}), tool("get_weather", {"city": "B"}))
    script.say("both known")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        assert len(watch.idle().stop_reason.event_ids) == 2
        first, second = of(watch.seen, "agent.custom_tool_use")
        session.send(result(second.id, "rain"))
        again = watch.idle()
        assert again.stop_reason.type == "requires_action"
        assert again.stop_reason.event_ids == [first.id]
        session.send(result(first.id, "sun"))
        assert watch.idle().stop_reason.type == "end_turn"
    # The model gets both answers in one turn, each under its own call.
    calls = {b["id"]: b["input"]["city"] for b in script.requests[1].body["messages"][-2]["content"]}
    answers = {calls[r["tool_use_id"]]: json.dumps(r["content"]) for r in tool_result_of(script.requests[1])}
    assert "sun" in answers["A"] and "rain" in answers["B"]


def test_custom_tool_error(chat, script):
    script.say(tool("get_weather", {"city": "Nowhere"}))
    script.say("sorry")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        watch.idle()
        use = of(watch.seen, "agent.custom_tool_use")[0]
        session.send(result(use.id, "no such city", is_error=True))
        watch.idle()
    (sent,) = tool_result_of(script.requests[1])
    assert sent["is_error"] is True


def test_the_same_answer_twice_is_one_answer(chat, script):
    """SDK helpers send again when they do not know whether the first attempt arrived."""
    script.say(tool("get_weather", {"city": "Bonn"}))
    script.say("fine")
    session = chat(script.model, agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        watch.idle()
        use = of(watch.seen, "agent.custom_tool_use")[0]
        session.send(result(use.id, "12 C"))
        watch.idle()
    session.send(result(use.id, "12 C"))
    with pytest.raises(anthropic.BadRequestError):
        session.send(result(use.id, "13 C"))
    assert len(of(session.history(), "user.custom_tool_result")) == 1


def test_results_for_calls_nobody_made(chat):
    session = chat(agent={"tools": [WEATHER]})
    with pytest.raises(anthropic.BadRequestError):
        session.send(result("sevt_011CZkZAAAAAAAAAAAAAAAAAA", "x"))
    with pytest.raises(anthropic.BadRequestError):
        session.send(verdict("sevt_011CZkZAAAAAAAAAAAAAAAAAA", "allow"))
    assert session.history() == []


def test_confirmation_allow(chat, script):
    script.say(tool("bash", {"command": "echo allowed > /workspace/a && cat /workspace/a"}))
    script.say("done")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        assert use.evaluated_permission == "ask"
        assert use.evaluation.type == "always_ask"
        idle = watch.idle()
        assert idle.stop_reason.event_ids == [use.id]
        assert not of(watch.seen, "agent.tool_result")
        session.send(verdict(use.id, "allow"))
        answer = watch.until("agent.tool_result")
        assert answer.tool_use_id == use.id and not answer.is_error
        assert "allowed" in texts(answer)
        assert watch.idle().stop_reason.type == "end_turn"
    confirmed = of(session.history(), "user.tool_confirmation")
    assert [c.tool_use_id for c in confirmed] == [use.id]


def test_confirmation_deny_with_a_message(chat, script):
    script.say(tool("bash", {"command": "touch /workspace/never"}))
    script.say(tool("bash", {"command": "ls /workspace"}))
    script.say("understood")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        watch.idle()
        session.send(verdict(use.id, "deny", deny_message="Not on a Tuesday."))
        second = watch.until("agent.tool_use")
        watch.idle()
        session.send(verdict(second.id, "allow"))
        assert "never" not in texts(watch.until(lambda e: getattr(e, "tool_use_id", "") == second.id and e.type == "agent.tool_result"))
        assert watch.idle().stop_reason.type == "end_turn"
    (told,) = tool_result_of(script.requests[1])
    assert told["is_error"] is True
    assert "Not on a Tuesday." in json.dumps(told["content"])


def test_deny_message_only_with_deny(chat, script):
    script.say(tool("bash", {"command": "true"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        watch.idle()
        with pytest.raises(anthropic.BadRequestError, match="deny_message"):
            session.send(verdict(use.id, "allow", deny_message="but why"))
        session.send(verdict(use.id, "allow"))
        watch.idle()


def test_a_mixed_batch_of_verdicts(chat, script):
    script.say(*(tool("bash", {"command": f"echo ran{i}"}) for i in range(3)))
    script.say("ok")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        watch.idle()
        one, two, three = of(watch.seen, "agent.tool_use")
        session.send(verdict(one.id, "allow"), verdict(two.id, "deny"), verdict(three.id, "allow"))
        watch.until(lambda e: e.type == "session.status_idle" and e.stop_reason.type == "end_turn")
    results = {e.tool_use_id: e for e in of(session.history(), "agent.tool_result")}
    assert "ran0" in texts(results[one.id]) and "ran2" in texts(results[three.id])
    told = tool_result_of(script.requests[1])
    assert [bool(t.get("is_error")) for t in told] == [False, True, False]


def test_parallel_calls_all_run(chat, script):
    script.say(*(tool("write", {"file_path": f"p{i}.txt", "content": str(i)}) for i in range(5)))
    script.say(tool("bash", {"command": "cat p0.txt p1.txt p2.txt p3.txt p4.txt"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    watch = session.turn("go")
    results = of(watch.seen, "agent.tool_result")
    assert len(results) == 6 and "01234" in texts(results[-1])
    uses = of(watch.seen, "agent.tool_use")
    assert all(u.evaluated_permission == "allow" and u.evaluation.type == "always_allow" for u in uses)
    # One answer to the model, with the results in the order of the calls.
    calls = [b["id"] for b in script.requests[1].body["messages"][-2]["content"]]
    assert [r["tool_use_id"] for r in tool_result_of(script.requests[1])] == calls


def test_disabled_tools_are_not_offered_and_not_run(chat, script):
    tools = [TOOLSET | {"configs": [{"name": "bash", "enabled": False}]}, WEATHER]
    script.say(tool("bash", {"command": "echo should not run"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": tools})
    watch = session.turn("go")
    offered = {t["name"] for t in script.requests[0].body["tools"]}
    assert "bash" not in offered and {"read", "write", "edit", "glob", "grep", "get_weather"} <= offered
    assert "should not run" not in "".join(texts(e) for e in of(watch.seen, "agent.tool_result"))
    (told,) = tool_result_of(script.requests[1])
    assert told["is_error"] is True


def test_every_file_tool(chat, script):
    script.say(tool("write", {"file_path": "src/a.txt", "content": "alpha\nbeta\n"}))
    script.say(tool("edit", {"file_path": "src/a.txt", "old_string": "beta", "new_string": "gamma"}))
    script.say(tool("read", {"file_path": "src/a.txt", "view_range": [2, 2]}))
    script.say(tool("glob", {"pattern": "**/*.txt"}))
    script.say(tool("grep", {"pattern": "gam+a", "path": "src"}))
    script.say(tool("read", {"file_path": "src/missing.txt"}))
    script.say("ok")
    watch = chat(script.model, agent={"tools": [TOOLSET]}).turn("go")
    wrote, edited, read, found, hits, missing = of(watch.seen, "agent.tool_result")
    assert texts(wrote) == "wrote 11 bytes to src/a.txt"
    assert texts(edited) == "edited src/a.txt (1 replacement(s))"
    assert texts(read) == "gamma"
    assert texts(found) == "/workspace/src/a.txt"
    assert texts(hits).strip().endswith("2:gamma")
    assert missing.is_error and texts(missing) == "read: src/missing.txt: no such file or directory"


def test_shell_state_persists_over_turns(chat, script):
    script.say(tool("bash", {"command": "cd /tmp && export WHO=me"}))
    script.say("one")
    script.say(tool("bash", {"command": "echo $WHO in $(pwd)"}))
    script.say("two")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    session.turn("go")
    watch = session.turn("again")
    assert texts(of(watch.seen, "agent.tool_result")[0]) == "me in /tmp"


def test_failing_command_is_an_error_result(chat, script):
    script.say(tool("bash", {"command": "echo to stderr >&2; exit 3"}))
    script.say("ok")
    watch = chat(script.model, agent={"tools": [TOOLSET]}).turn("go")
    (failed,) = of(watch.seen, "agent.tool_result")
    assert failed.is_error and texts(failed) == "to stderr"


def test_the_sandbox_holds_no_key(chat, script, server):
    script.say(tool("bash", {"command": "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; true"}))
    script.say("ok")
    watch = chat(script.model, agent={"tools": [TOOLSET]}).turn("go")
    shown = texts(of(watch.seen, "agent.tool_result")[0])
    assert server.key not in shown and "upstream-key" not in shown
    assert "FREEHOLD_" not in shown and "ANTHROPIC_" not in shown


def test_sandboxes_are_separate(chat):
    one, two = chat(agent={"tools": [TOOLSET]}), chat(agent={"tools": [TOOLSET]})
    one.turn("write: /workspace/secret.txt <<< mine")
    seen = two.turn("bash: ls -A /workspace; cat /workspace/secret.txt").seen
    assert "mine" not in texts(of(seen, "agent.tool_result")[0])


def test_session_tool_runner_serves_custom_tools(chat, script, aclient):
    script.say(tool("add", {"a": 2, "b": 40}))
    script.say(tool("fail", {}))
    script.say("The sum is 42.")
    add_schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [
        {"type": "custom", "name": "add", "description": "Adds.", "input_schema": add_schema},
        {"type": "custom", "name": "fail", "description": "Fails.", "input_schema": {"type": "object"}},
    ]
    session = chat(script.model, agent={"tools": tools})

    @beta_async_tool
    async def add(a: int, b: int) -> str:
        """Adds."""
        return str(a + b)

    @beta_async_tool
    async def fail() -> str:
        """Fails."""
        raise ValueError("broken on purpose")

    async def serve():
        calls = []
        async with aclient:
            runner = aclient.beta.sessions.events.tool_runner(session.id, tools=[add, fail], max_idle=1)
            await aclient.beta.sessions.events.send(
                session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": "sum"}]}]
            )
            async for call in runner:
                calls.append(call)
        return calls

    calls = asyncio.run(asyncio.wait_for(serve(), 60))
    assert [(c.name, c.posted, c.is_error) for c in calls] == [("add", True, False), ("fail", True, True)]
    assert "42" in json.dumps(tool_result_of(script.requests[1]))
    assert "broken on purpose" in json.dumps(tool_result_of(script.requests[2]))
    assert last_text(session.history()) == "The sum is 42."


def test_session_tool_runner_waits_for_confirmation_on_self_hosted(client, chat, script, aclient):
    """A self-hosted environment: the SDK's runner is the sandbox and the person decides."""
    environment = client.beta.environments.create(name="theirs", config={"type": "self_hosted"})
    script.say(tool("bash", {"command": "uptime"}), tool("read", {"file_path": "x"}))
    script.say("done")
    session = chat(script.model, agent={"tools": [ASK]}, environment_id=environment.id)

    @beta_async_tool
    async def bash(command: str) -> str:
        """Runs."""
        return f"ran {command}"

    @beta_async_tool
    async def read(file_path: str) -> str:
        """Reads."""
        return "never"

    async def serve():
        calls = []
        async with aclient:
            async with await aclient.beta.sessions.events.stream(session.id) as stream:
                runner = aclient.beta.sessions.events.tool_runner(session.id, tools=[bash, read], max_idle=1)
                consumer = asyncio.create_task(collect(runner, calls))
                await aclient.beta.sessions.events.send(
                    session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": "go"}]}]
                )
                async for event in stream:
                    if event.type == "agent.tool_use":
                        say = "allow" if event.name == "bash" else "deny"
                        await aclient.beta.sessions.events.send(session.id, events=[verdict(event.id, say)])
                    if event.type == "session.status_idle" and event.stop_reason.type == "end_turn":
                        break
                await consumer
        return calls

    calls = asyncio.run(asyncio.wait_for(serve(), 60))
    assert {(c.name, c.confirmation, c.posted) for c in calls} == {
        ("bash", "allow", True),
        ("read", "deny", False),
    }
    told = tool_result_of(script.requests[1])
    assert "ran uptime" in json.dumps(told[0]["content"]) and told[1]["is_error"] is True


async def collect(runner, calls):
    async for call in runner:
        calls.append(call)


def test_user_tool_result_is_only_for_self_hosted(chat, script):
    script.say(tool("bash", {"command": "true"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [ASK]})
    with session.watch() as watch:
        session.send("go")
        use = watch.until("agent.tool_use")
        watch.idle()
        with pytest.raises(anthropic.BadRequestError):
            session.send({"type": "user.tool_result", "tool_use_id": use.id, "content": []})
        session.send(verdict(use.id, "deny"))
        watch.idle()


def test_unavailable_web_search_says_so(chat, script):
    """No provider is configured: the tool is not pretended."""
    script.say(tool("web_search", {"query": "x"}))
    script.say("ok")
    watch = chat(script.model, agent={"tools": [TOOLSET]}).turn("go")
    offered = {t["name"] for t in script.requests[0].body["tools"]}
    assert "web_search" not in offered
    (told,) = tool_result_of(script.requests[1])
    assert told["is_error"] is True
    assert watch.seen[-1].stop_reason.type == "end_turn"


def test_web_fetch_refuses_private_addresses(chat, script, upstream):
    script.say(tool("web_fetch", {"url": upstream.url + "/v1/models"}))
    script.say("ok")
    watch = chat(script.model, agent={"tools": [TOOLSET]}).turn("go")
    (refused,) = of(watch.seen, "agent.tool_result")
    assert refused.is_error


def test_large_output_is_spilled_to_a_file(chat, script):
    line = "x" * 99
    script.say(tool("write", {"file_path": "big.txt", "content": (line + "\n") * 2500}))
    script.say(tool("read", {"file_path": "big.txt"}))
    script.say(tool("bash", {"command": "ls -R /tmp /workspace /mnt/session 2>/dev/null | head -50"}))
    script.say("ok")
    session = chat(script.model, agent={"tools": [TOOLSET]})
    watch = session.turn("go")
    shown = of(watch.seen, "agent.tool_result")[1]
    assert len(texts(shown)) < 100_000
    (told,) = tool_result_of(script.requests[2])
    preview = json.dumps(told["content"])
    assert len(preview) < 100_000
    path = re.search(r"/[\w./-]*sevt_[\w-]+\.txt", preview)
    assert path, preview[-2000:]
    script.say(tool("bash", {"command": f"wc -c < {path.group(0)}"}))
    script.say("counted")
    watch = session.turn("how long is it?")
    assert texts(of(watch.seen, "agent.tool_result")[0]).strip() == str(2500 * 100)
