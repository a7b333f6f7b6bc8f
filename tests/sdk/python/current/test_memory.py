"""Memory stores: the resource, sessions that mount them, and the SDK's own sync."""

import asyncio
import hashlib

import anthropic
import pytest
from anthropic.lib.tools._memories import MARKER_PATH, SessionMemoryStores

from conftest import TOOLSET
from harness.chat import of, texts


def sha(content):
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def store(client):
    return client.beta.memory_stores.create(name="Team Notes", description="how we work", metadata={"a": "b"})


def test_stores(client, store):
    stores = client.beta.memory_stores
    assert (store.type, store.name, store.metadata, store.archived_at) == ("memory_store", "Team Notes", {"a": "b"}, None)
    assert stores.retrieve(store.id) == store
    changed = stores.update(store.id, description="", metadata={"a": None})
    assert (changed.description, changed.metadata) == ("", {})
    assert store.id in [s.id for s in stores.list(limit=1)]
    archived = stores.archive(store.id)
    assert archived.archived_at and stores.archive(store.id) == archived
    assert store.id not in [s.id for s in stores.list()]
    assert store.id in [s.id for s in stores.list(include_archived=True)]
    with pytest.raises(anthropic.BadRequestError):
        stores.memories.create(store.id, path="/a", content="x")
    assert stores.delete(store.id).type == "memory_store_deleted"
    with pytest.raises(anthropic.NotFoundError):
        stores.retrieve(store.id)


def test_memories(client, store):
    memories = client.beta.memory_stores.memories
    made = memories.create(store.id, path="/notes/a.md", content="tabs")
    assert (made.content, made.content_sha256, made.content_size_bytes) == (None, sha("tabs"), 4)
    assert memories.retrieve(made.id, memory_store_id=store.id).content == "tabs"
    memories.create(store.id, path="/top", content="", view="full")
    listed = memories.list(store.id, depth=1)
    assert [(m.type, m.path) for m in listed] == [("memory_prefix", "/notes/"), ("memory", "/top")]
    assert [m.path for m in memories.list(store.id, path_prefix="/notes/", limit=1)] == ["/notes/a.md"]
    when = {"type": "content_sha256", "content_sha256": sha("tabs")}
    edited = memories.update(made.id, memory_store_id=store.id, content="spaces", precondition=when, view="full")
    assert (edited.id, edited.content) == (made.id, "spaces")
    with pytest.raises(anthropic.ConflictError) as caught:
        memories.update(made.id, memory_store_id=store.id, content="both", precondition=when)
    assert caught.value.type == "memory_precondition_failed_error"
    with pytest.raises(anthropic.ConflictError) as caught:
        memories.create(store.id, path="/notes", content="")
    error = caught.value.body["error"]
    assert (error["type"], error["conflicting_memory_id"]) == ("memory_path_conflict_error", made.id)
    with pytest.raises(anthropic.ConflictError):
        memories.delete(made.id, memory_store_id=store.id, expected_content_sha256=sha("tabs"))
    gone = memories.delete(made.id, memory_store_id=store.id, expected_content_sha256=sha("spaces"))
    assert (gone.id, gone.type) == (made.id, "memory_deleted")

    versions = client.beta.memory_stores.memory_versions
    record = list(versions.list(store.id, memory_id=made.id, limit=1))
    assert [v.operation for v in record] == ["deleted", "modified", "created"]
    first = versions.retrieve(record[-1].id, memory_store_id=store.id)
    assert (first.content, first.created_by.type) == ("tabs", "api_actor")
    redacted = versions.redact(first.id, memory_store_id=store.id)
    assert (redacted.content, redacted.path, redacted.redacted_by) == (None, None, first.created_by)


def test_the_two_betas_exclude_each_other(client):
    with pytest.raises(anthropic.BadRequestError, match="anthropic-beta"):
        client.beta.memory_stores.list(betas=["managed-agents-2026-04-01"])


def test_an_agent_reads_and_writes_its_memory(client, store, chat):
    memories = client.beta.memory_stores.memories
    memories.create(store.id, path="/given", content="from the API")
    attached = {"type": "memory_store", "memory_store_id": store.id, "instructions": "look here first"}
    session = chat(agent={"tools": [TOOLSET]}, resources=[attached])
    (resource,) = session.created.resources
    assert (resource.mount_path, resource.access, resource.name) == ("/mnt/memory/team-notes", "read_write", "Team Notes")
    turn = session.turn("bash: cd /mnt/memory/team-notes; cat given; echo kept > written")
    assert texts(of(turn.seen, "agent.tool_result")[0]) == "from the API"
    written = [m for m in memories.list(store.id, view="full") if m.path == "/written"]
    assert written[0].content == "kept\n"
    (version,) = client.beta.memory_stores.memory_versions.list(store.id, session_id=session.id)
    assert version.created_by.session_id == session.id
    (found,) = client.beta.sessions.list(memory_store_id=store.id)
    assert found.id == session.id


def test_the_sdks_own_sync(client, aclient, store, chat, tmp_path):
    """What the official worker does to a folder, with our server on the other side."""
    memories = client.beta.memory_stores.memories
    for n in range(25):  # More than a page.
        memories.create(store.id, path=f"/many/{n:02}", content=str(n))
    session = chat(agent={"tools": [TOOLSET]}, resources=[{"type": "memory_store", "memory_store_id": store.id}])
    root = tmp_path / "memory" / "team-notes"
    fetched = session.get()
    fetched.resources[0].mount_path = str(root)

    async def work():
        sync = SessionMemoryStores(aclient, workdir=tmp_path)
        await sync.download(fetched)
        assert (root / MARKER_PATH).exists() and len(list((root / "many").iterdir())) == 25
        (root / "many" / "00").write_text("edited")
        (root / "new").write_text("new")
        (root / "many" / "01").unlink()
        memories.create(store.id, path="/elsewhere", content="e")
        await sync.finish()
        assert (root / "elsewhere").read_text() == "e"
        (root / "late").write_text("late")
        await sync.flush_writes()
        await sync.dispose()

    asyncio.run(work())
    held = {m.path: m.content for m in memories.list(store.id, view="full")}
    assert (held["/many/00"], held["/new"], held["/late"]) == ("edited", "new", "late")
    assert "/many/01" not in held and len(held) == 27
