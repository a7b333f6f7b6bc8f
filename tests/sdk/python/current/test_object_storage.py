"""What is particular to object storage. Runs with `--object-storage`, as do the tests of files and skills."""

import hashlib
import os
import shutil
import subprocess

import pytest
from anthropic import Anthropic

from conftest import CONFIG, TOOLSET
from harness.chat import Chat, of, texts
from harness.server import Server, binary
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


def move(folder, old, new):
    """What one folder's server holds into the other's, whose configuration is there."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    new.joinpath("data").mkdir()
    shutil.copy(old / "data/secrets.key", new / "data/secrets.key")
    for action, place in [("export", old), ("import", new)]:
        file = str(folder / f"to-{new.name}.zst")
        where = ["--data-dir", str(place / "data"), "--config", str(place / "freehold.toml")]
        done = subprocess.run([binary(), action, file, *where], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_store_moves_into_a_bucket_and_out_again(tmp_path, storage):
    first, bucket, last = (tmp_path / name for name in ("first", "bucket", "last"))
    plain = CONFIG.format(upstream="http://127.0.0.1:1")
    for folder in (first, bucket, last):
        folder.mkdir()
    kept = storage.config(bucket).replace("/files\"", "/moved\"")
    contents = {"small.txt": b"in the bucket", "empty.txt": b"", "large.txt": b"%d\n" * 3_000_000 % (*range(3_000_000),)}
    before = storage.objects()
    server = Server(first, None, plain)
    try:
        client = Anthropic(api_key=server.key, base_url=server.url)
        environment = client.beta.environments.create(name="moving", config={"type": "cloud"})
        agent = client.beta.agents.create(name="mover", model="rehearsal", tools=[TOOLSET])
        session = Chat(client, client.beta.sessions.create(agent=agent.id, environment_id=environment.id))
        session.turn(
            "bash: cd /mnt/session/outputs; printf 'in the bucket' > small.txt; : > empty.txt; seq 0 2999999 > large.txt"
        )
        wait_until("the outputs", lambda: len(list(client.beta.files.list(scope_id=session.id))) == 3)
        skill = client.skills.create(files=parts("moving")).id
    finally:
        assert server.stop() == 0
    for old, new, config in [(first, bucket, plain + kept), (bucket, last, plain)]:
        (new / "freehold.toml").write_text(config)
        move(tmp_path, old, new)
        added = storage.objects() - before
        assert len(added) == 4 and all(name.startswith("moved/") for name in added)
        server = Server(new, None, config)
        try:
            client = Anthropic(api_key=server.key, base_url=server.url)
            files = list(client.beta.files.list(scope_id=session.id))
            found = {file.filename: client.files.download(file.id).read() for file in files}
            assert found == contents
            assert client.skills.retrieve(skill).id == skill
            again = Chat(client, client.beta.sessions.retrieve(session.id))
            assert again.answer("bash: echo still here") and again.check() is None
        finally:
            assert server.stop() == 0
        assert not server.complaints()
        assert (new / "data/blobs").exists() == (new is last)
