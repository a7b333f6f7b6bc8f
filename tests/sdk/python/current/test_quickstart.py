"""The README's five minutes, through the SDK as a user would write it."""

from anthropic import Anthropic

from harness.chat import last_text, of


def test_quickstart(server):
    client = Anthropic(api_key=server.key, base_url=server.url)
    agent = client.beta.agents.create(
        name="Coder",
        model="rehearsal",
        system="You write small programs and run them.",
        tools=[{"type": "agent_toolset_20260401"}],
    )
    environment = client.beta.environments.create(
        name="quickstart", config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id, title="Quickstart")
    assert session.status == "idle"
    assert session.agent.id == agent.id and session.agent.version == agent.version

    seen = []
    with client.beta.sessions.events.stream(session.id) as stream:
        client.beta.sessions.events.send(
            session.id,
            events=[
                {
                    "type": "user.message",
                    "content": [
                        {
                            "type": "text",
                            "text": "write: hello.py <<<\n| print('hello ' + str(6 * 7))\n"
                            "bash: python3 hello.py\nsay: It printed {result}",
                        }
                    ],
                }
            ],
        )
        for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break

    assert seen[-1].stop_reason.type == "end_turn"
    assert [e.name for e in of(seen, "agent.tool_use")] == ["write", "bash"]
    assert all(not e.is_error for e in of(seen, "agent.tool_result"))
    assert "hello 42" in last_text(seen)

    # What the stream showed is what the history has.
    listed = [e.id for e in client.beta.sessions.events.list(session.id)]
    assert [e.id for e in seen if e.type != "user.message"] == [
        i for i in listed if i in {e.id for e in seen if e.type != "user.message"}
    ]
    after = client.beta.sessions.retrieve(session.id)
    assert after.status == "idle"
    assert after.usage.input_tokens and after.usage.output_tokens


def test_the_rehearsal_model_says_what_it_is(chat):
    answer = chat().answer("What are you?")
    assert answer.startswith("This is the built-in rehearsal model, not a language model.")


def test_initial_events_start_the_session(chat):
    session = chat(
        initial_events=[{"type": "user.message", "content": [{"type": "text", "text": "say: started"}]}]
    )
    assert session.created.status == "running"
    with session.watch() as watch:
        history = session.history()
        if not of(history, "session.status_idle"):
            watch.idle()
    history = session.history()
    assert history[0].type == "user.message"
    assert "started" in last_text(history)
