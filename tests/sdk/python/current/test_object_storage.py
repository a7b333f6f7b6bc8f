"""What is particular to object storage. Runs with `--object-storage`, as do the tests of files and skills."""

import hashlib

import pytest

from conftest import CONFIG, TOOLSET
from harness.chat import of, texts
from harness.server import Server
from harness.watch import wait_until
from test_skills import parts


def test_uploads_are_objects_and_go_at_once(client, server, storage):
    before = storage.objects()
    file = client.files.upload(file=("a.txt", b"in the bucket", "text/plain"))
    (name,) = storage.objects() - before
    digest = hashlib.sha256(b"in the bucket").hexdigest()
    assert name.startswith(f"files/{digest[:2]}/{digest[2:]}-")
    client.files.delete(file.id)
    assert storage.objects() == before
    assert not (server.folder / "data/blobs").exists()


def test_large_outputs_come_back_as_they_were_and_go_with_the_session(client, chat, storage):
    before = storage.objects()
    session = chat(agent={"tools": [TOOLSET]})
    session.turn("bash: seq 1 4000000 > /mnt/session/outputs/big.txt")
    (file,) = wait_until("the output", lambda: list(client.beta.files.list(scope_id=session.id)))
    expected = b"".join(b"%d\n" % n for n in range(1, 4000001))
    assert file.size_bytes == len(expected) > 24 << 20
    assert client.files.download(file.id).read() == expected
    assert len(storage.objects() - before) == 1
    client.beta.sessions.delete(session.id)
    assert storage.objects() == before


def test_what_a_session_still_shows_stays(client, chat, storage):
    before = storage.objects()
    file = client.files.upload(file=("a.txt", b"shared bytes", "text/plain"))
    attached = [{"type": "file", "file_id": file.id, "mount_path": "/a.txt"}]
    session = chat(agent={"tools": [TOOLSET]}, resources=attached)
    client.files.delete(file.id)
    assert len(storage.objects() - before) == 1
    watch = session.turn("read: /mnt/session/uploads/a.txt")
    assert texts(of(watch.seen, "agent.tool_result")[0]) == "shared bytes"
    client.beta.sessions.delete(session.id)
    assert storage.objects() == before


def test_skills_are_objects(client, storage):
    before = storage.objects()
    skill = client.skills.create(files=parts("stored"))
    assert len(storage.objects() - before) == 1
    client.skills.delete(skill.id)
    assert storage.objects() == before


def test_a_server_without_its_bucket_does_not_start(tmp_path, storage):
    with pytest.raises(RuntimeError) as caught:
        Server(tmp_path, None, CONFIG.format(upstream="http://127.0.0.1:1") + storage.config(tmp_path, "another"))
    said = str(caught.value)
    assert "files cannot be kept in s3://another/files" in said
    assert "the bucket does not exist" in said and "make the bucket" in said
    assert storage.key[0] not in said and storage.key[1] not in said
