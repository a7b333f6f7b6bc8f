"""Every list, page by page, and what cursors are not good for."""

import anthropic
import pytest



def ids(page):
    return [item.id for item in page]


def pages(first):
    """All pages, as the SDK walks them."""
    return list(first.iter_pages())


def test_agents(client):
    made = [client.beta.agents.create(name=f"page {i}", model="rehearsal").id for i in range(5)]
    first = client.beta.agents.list(limit=2)
    assert len(first.data) == 2 and first.next_page
    found = ids(client.beta.agents.list(limit=2))
    assert [i for i in found if i in made] == made[::-1]
    assert len(found) == len(set(found))


def test_agents_by_creation_time(client):
    agent = client.beta.agents.create(name="dated", model="rehearsal")
    found = client.beta.agents.list(created_at_gte=agent.created_at, created_at_lte=agent.created_at)
    assert agent.id in ids(found)
    assert all(a.created_at == agent.created_at for a in found)


def test_agent_versions(client):
    agent = client.beta.agents.create(name="v", model="rehearsal")
    for i in range(4):
        client.beta.agents.update(agent.id, name=f"v{i}")
    versions = [v.version for v in client.beta.agents.versions.list(agent.id, limit=2)]
    assert sorted(versions) == [1, 2, 3, 4, 5] and len(versions) == 5
    assert len(pages(client.beta.agents.versions.list(agent.id, limit=2))) == 3


def test_environments(client):
    made = [client.beta.environments.create(name=f"page env {i}").id for i in range(5)]
    found = ids(client.beta.environments.list(limit=2))
    assert set(made) <= set(found) and len(found) == len(set(found))


def test_archived_are_left_out_unless_asked_for(client, environment):
    agent = client.beta.agents.create(name="gone", model="rehearsal")
    env = client.beta.environments.create(name="gone too")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    client.beta.sessions.archive(session.id)
    client.beta.agents.archive(agent.id)
    client.beta.environments.archive(env.id)
    assert agent.id not in ids(client.beta.agents.list(limit=100))
    assert agent.id in ids(client.beta.agents.list(limit=100, include_archived=True))
    assert env.id not in ids(client.beta.environments.list())
    assert env.id in ids(client.beta.environments.list(include_archived=True))
    assert session.id not in ids(client.beta.sessions.list(agent_id=agent.id))
    assert session.id in ids(client.beta.sessions.list(agent_id=agent.id, include_archived=True))


@pytest.fixture(scope="module")
def sessions(client, environment):
    """Seven sessions of an agent of their own, oldest first."""
    agent = client.beta.agents.create(name="many", model="rehearsal")
    made = [client.beta.sessions.create(agent=agent.id, environment_id=environment.id) for _ in range(7)]
    return agent, made


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sessions_in_both_orders_and_directions(client, sessions, order):
    agent, made = sessions
    expected = [s.id for s in made] if order == "asc" else [s.id for s in made][::-1]
    walked = pages(client.beta.sessions.list(agent_id=agent.id, limit=3, order=order))
    assert [ids_of(p) for p in walked] == [expected[:3], expected[3:6], expected[6:]]
    assert walked[0].prev_page is None and walked[-1].next_page is None
    back = client.beta.sessions.list(agent_id=agent.id, limit=3, order=order, page=walked[2].prev_page)
    assert ids_of(back) == expected[3:6]
    front = client.beta.sessions.list(agent_id=agent.id, limit=3, order=order, page=back.prev_page)
    assert ids_of(front) == expected[:3]
    assert front.prev_page is None and front.next_page
    # The limit may change between pages.
    assert ids_of(client.beta.sessions.list(agent_id=agent.id, limit=2, order=order, page=front.next_page)) == expected[3:5]


def ids_of(page):
    return [item.id for item in page.data]


def test_sessions_newest_first_by_default(client, sessions):
    agent, made = sessions
    assert ids(client.beta.sessions.list(agent_id=agent.id)) == [s.id for s in made][::-1]


def test_session_filters(client, sessions):
    agent, made = sessions
    middle = made[3]
    later = client.beta.sessions.list(agent_id=agent.id, created_at_gt=middle.created_at, order="asc")
    assert ids(later) == [s.id for s in made[4:]]
    sooner = client.beta.sessions.list(agent_id=agent.id, created_at_lte=middle.created_at, order="asc")
    assert ids(sooner) == [s.id for s in made[:4]]
    assert ids(client.beta.sessions.list(agent_id=agent.id, statuses=["running", "terminated"])) == []
    assert len(ids(client.beta.sessions.list(agent_id=agent.id, statuses=["idle", "running"]))) == 7
    assert ids(client.beta.sessions.list(agent_id=agent.id, agent_version=2)) == []
    assert len(ids(client.beta.sessions.list(agent_id=agent.id, agent_version=1))) == 7


def test_session_cursor_misuse(client, sessions):
    agent, made = sessions
    cursor = client.beta.sessions.list(agent_id=agent.id, limit=3, order="desc").next_page
    bad = [
        {"order": "asc", "page": cursor},
        {"order": "desc", "page": "page_nonsense"},
        {"order": "desc", "page": cursor[:-4]},
        {"order": "desc", "page": cursor, "created_at_gt": made[-1].created_at},
    ]
    for query in bad:
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.list(agent_id=agent.id, limit=3, **query)


def test_a_cursor_of_one_list_is_no_cursor_of_another(client, sessions):
    agent, _ = sessions
    cursor = client.beta.sessions.list(agent_id=agent.id, limit=3).next_page
    with pytest.raises(anthropic.BadRequestError):
        client.beta.agents.list(page=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1_000_000])
def test_limits_have_bounds(client, limit):
    for listing in (client.beta.agents.list, client.beta.sessions.list, client.beta.environments.list):
        with pytest.raises(anthropic.BadRequestError, match="limit"):
            listing(limit=limit)


def test_events(chat):
    session = chat()
    for word in ("one", "two", "three"):
        session.turn(f"say: {word}")
    everything = [e.id for e in session.history()]
    assert [e.id for e in session.history(limit=4)] == everything
    assert [e.id for e in session.history(limit=4, order="desc")] == everything[::-1]
    assert [e.id for e in session.history(limit=1000)] == everything
    messages = session.history(types=["user.message", "agent.message"], limit=2)
    assert [e.type for e in messages] == ["user.message", "agent.message"] * 3
    middle = messages[2]
    later = session.history(created_at_gte=middle.processed_at, limit=3)
    assert [e.id for e in later] == everything[everything.index(later[0].id) :]
    assert middle.id in [e.id for e in later]
    with pytest.raises(anthropic.BadRequestError, match="types"):
        session.history(types=["no.such_event"])
    cursor = session.events.list(session.id, limit=4).next_page
    with pytest.raises(anthropic.BadRequestError):
        session.events.list(session.id, limit=4, order="desc", page=cursor)


def test_events_page_while_the_history_grows(chat):
    session = chat()
    session.turn("say: one")
    first = session.events.list(session.id, limit=3)
    session.turn("say: two")
    rest = first.get_next_page()
    walked = ids_of(first)
    while True:
        walked += ids_of(rest)
        if not rest.has_next_page():
            break
        rest = rest.get_next_page()
    assert walked == [e.id for e in session.history()]


def test_an_event_cursor_is_bound_to_its_session(chat):
    one, two = chat(), chat()
    one.turn("say: a")
    two.turn("say: b")
    cursor = one.events.list(one.id, limit=2).next_page
    with pytest.raises(anthropic.BadRequestError):
        two.events.list(two.id, limit=2, page=cursor)


def test_threads(chat, client):
    session = chat()
    threads = list(client.beta.sessions.threads.list(session.id, limit=1))
    assert len(threads) == 1
    thread = client.beta.sessions.threads.retrieve(threads[0].id, session_id=session.id)
    assert thread.id == threads[0].id and thread.parent_thread_id is None
    session.turn("say: hi")
    assert list(client.beta.sessions.threads.list(session.id, statuses=["idle"]))[0].id == thread.id
    assert list(client.beta.sessions.threads.list(session.id, statuses=["running"])) == []
    again = client.beta.sessions.threads.retrieve(thread.id, session_id=session.id)
    assert again.usage is not None and again.stats is not None
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.threads.archive(thread.id, session_id=session.id)


def test_files(client):
    made = [client.files.upload(file=(f"p{i}.txt", b"x", "text/plain")).id for i in range(5)]
    found = ids(client.files.list(limit=2))
    assert [i for i in found if i in made] == made[::-1]
    some = client.files.list(ids=[made[0], "file_011CZkZAAAAAAAAAAAAAAAAAA", made[3]])
    assert set(ids(some)) == {made[0], made[3]} and some.next_page is None
    with pytest.raises(anthropic.BadRequestError):
        client.files.list(ids=made, limit=2)


def test_session_resources(client, chat):
    files = [client.files.upload(file=(f"r{i}.txt", b"x", "text/plain")).id for i in range(3)]
    session = chat(resources=[{"type": "file", "file_id": f} for f in files])
    resources = client.beta.sessions.resources
    everything = ids(resources.list(session.id))
    assert len(everything) == 3
    assert ids(resources.list(session.id, limit=2)) == everything
    assert resources.retrieve(everything[0], session_id=session.id).type == "file"


def test_models(client):
    everything = list(client.models.list())
    assert {"rehearsal", "priced", "small"} <= {m.id for m in everything}
    assert [m.id for m in client.models.list(limit=1)] == [m.id for m in everything]
    first = client.models.list(limit=2)
    assert first.first_id == first.data[0].id and first.last_id == first.data[-1].id and first.has_more
    rest = client.models.list(limit=1000, after_id=first.last_id)
    assert [m.id for m in first.data] + [m.id for m in rest.data] == [m.id for m in everything]
    back = client.models.list(before_id=rest.data[0].id, limit=2)
    assert [m.id for m in back.data] == [m.id for m in first.data]


def test_lists_take_plain_and_bracketed_arrays(client, chat, server):
    """SDKs send `types[]`, people's scripts repeat the key."""
    session = chat()
    session.turn("say: x")
    for query in ("types[]=user.message&types[]=agent.message", "types%5B%5D=user.message&types%5B%5D=agent.message", "types=user.message&types=agent.message"):
        got = client.get(f"/v1/sessions/{session.id}/events?{query}", cast_to=object)
        assert [e["type"] for e in got["data"]] == ["user.message", "agent.message"]
