"""Files: uploading, mounting, reading in the sandbox, outputs, downloading, deleting."""

import hashlib
import io

import anthropic
import pytest

from conftest import TOOLSET
from harness.chat import of, texts
from harness.watch import wait_until


def test_upload_and_metadata(client):
    file = client.files.upload(file=("report.csv", b"a,b\n1,2\n", "text/csv"))
    assert (file.filename, file.mime_type, file.size_bytes) == ("report.csv", "text/csv", 8)
    assert file.downloadable is False and file.expires_at is None
    assert client.files.retrieve_metadata(file.id).id == file.id
    assert client.beta.files.retrieve_metadata(file.id).scope is None


def test_uploads_cannot_be_downloaded(client):
    file = client.files.upload(file=("secret.txt", b"x", "text/plain"))
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.files.download(file.id)
    assert caught.value.error_code == "file_not_downloadable"


def test_delete(client):
    file = client.files.upload(file=("x.txt", b"x", "text/plain"))
    gone = client.files.delete(file.id)
    assert (gone.id, gone.type) == (file.id, "file_deleted")
    for call in (client.files.retrieve_metadata, client.files.delete, client.files.download):
        with pytest.raises(anthropic.NotFoundError, match=file.id):
            call(file.id)


def test_expiry(client):
    file = client.files.upload(file=("x.txt", b"x", "text/plain"), expires_in_seconds=3600)
    assert file.expires_at is not None
    assert abs((file.expires_at - file.created_at).total_seconds() - 3600) < 2
    for seconds in (3599, 7776001):
        with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds"):
            client.files.upload(file=("x.txt", b"x", "text/plain"), expires_in_seconds=seconds)


@pytest.mark.parametrize("name", ["a<b.txt", "a|b", "a?b", "a:b", "a*b", "x" * 256])
def test_bad_file_names(client, name):
    with pytest.raises(anthropic.BadRequestError, match="filename"):
        client.files.upload(file=(name, b"x", "text/plain"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "dir/passwd"])
def test_only_the_last_part_of_a_path_is_the_name(client, name):
    assert client.files.upload(file=(name, b"x", "text/plain")).filename == "passwd"


def test_unicode_names_and_guessed_types(client):
    assert client.files.upload(file=("naïve 日本.txt", b"x", "text/plain")).filename == "naïve 日本.txt"
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    assert client.files.upload(file=("p.png", png)).mime_type == "image/png"


def test_upload_without_a_file(client):
    with pytest.raises(anthropic.BadRequestError):
        client.post("/v1/files", body={}, cast_to=object)


def test_a_file_of_some_megabytes(client, chat):
    body = bytes(range(256)) * 4096 * 8
    file = client.files.upload(file=("big.bin", io.BytesIO(body), "application/octet-stream"))
    assert file.size_bytes == len(body)
    session = chat(agent={"tools": [TOOLSET]}, resources=[{"type": "file", "file_id": file.id, "mount_path": "/big.bin"}])
    watch = session.turn("bash: sha256sum < /mnt/session/uploads/big.bin")
    assert hashlib.sha256(body).hexdigest() in texts(of(watch.seen, "agent.tool_result")[0])


def test_mounted_files_are_readable_and_read_only(client, chat):
    file = client.files.upload(file=("data.csv", b"city,temp\nOslo,-5\n", "text/csv"))
    session = chat(
        agent={"tools": [TOOLSET]},
        resources=[
            {"type": "file", "file_id": file.id, "mount_path": "/in/data.csv"},
            {"type": "file", "file_id": file.id},
        ],
    )
    named, plain = session.created.resources
    assert named.mount_path.endswith("/in/data.csv")
    # The session has copies of its own.
    assert named.file_id != file.id and plain.file_id not in (file.id, named.file_id)
    copy = client.beta.files.retrieve_metadata(named.file_id)
    assert copy.scope.id == session.id and copy.filename == "data.csv"
    watch = session.turn(
        "read: /mnt/session/uploads/in/data.csv\n"
        "bash: ls /mnt/session/uploads\n"
        "bash: echo x >> /mnt/session/uploads/in/data.csv\n"
        "write: /mnt/session/uploads/new <<< x"
    )
    read, listed, appended, wrote = of(watch.seen, "agent.tool_result")
    assert texts(read) == "city,temp\nOslo,-5\n"
    assert file.id in texts(listed) or plain.file_id in texts(listed)
    assert appended.is_error and wrote.is_error
    # Deleting the upload does not take the copy away.
    client.files.delete(file.id)
    watch = session.turn("read: /mnt/session/uploads/in/data.csv")
    assert "Oslo" in texts(of(watch.seen, "agent.tool_result")[0])


def test_files_can_be_attached_later_and_taken_away(client, chat):
    session = chat(agent={"tools": [TOOLSET]})
    session.turn("bash: echo sandbox is up")
    file = client.files.upload(file=("late.txt", b"late but here", "text/plain"))
    resource = client.beta.sessions.resources.add(
        session.id, type="file", file_id=file.id, mount_path="/late.txt"
    )
    watch = session.turn("read: /mnt/session/uploads/late.txt")
    assert texts(of(watch.seen, "agent.tool_result")[0]) == "late but here"
    gone = client.beta.sessions.resources.delete(resource.id, session_id=session.id)
    assert (gone.id, gone.type) == (resource.id, "session_resource_deleted")
    watch = session.turn("read: /mnt/session/uploads/late.txt")
    assert of(watch.seen, "agent.tool_result")[0].is_error
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.resources.retrieve(resource.id, session_id=session.id)
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.resources.add(session.id, type="file", file_id=file.id, mount_path="relative.txt")


@pytest.mark.parametrize("path", ["/../escape", "relative", "/a/../../b", "", "/a\0b", "/" + "x" * 5000])
def test_bad_mount_paths(client, chat, path):
    file = client.files.upload(file=("x.txt", b"x", "text/plain"))
    with pytest.raises(anthropic.BadRequestError, match="mount_path"):
        chat(resources=[{"type": "file", "file_id": file.id, "mount_path": path}])


def test_unknown_files_are_refused(chat):
    with pytest.raises(anthropic.APIStatusError) as caught:
        chat(resources=[{"type": "file", "file_id": "file_011CZkZAAAAAAAAAAAAAAAAAA"}])
    assert caught.value.status_code in (400, 404)


def test_outputs_appear_and_download_equal(client, chat):
    session = chat(agent={"tools": [TOOLSET]})
    session.turn(
        "bash: head -c 300000 /dev/zero | tr '\\0' 'z' > /mnt/session/outputs/big.txt\n"
        "write: /mnt/session/outputs/deep/er/note.md <<< # Title\n"
    )
    found = wait_until(
        "both outputs",
        lambda: {f.filename: f for f in client.beta.files.list(scope_id=session.id)}
        if len(client.beta.files.list(scope_id=session.id).data) == 2
        else None,
    )
    big = found["big.txt"]
    assert big.downloadable and big.scope.id == session.id and big.size_bytes == 300_000
    assert client.beta.files.download(big.id).read() == b"z" * 300_000
    note = next(f for name, f in found.items() if name.endswith("note.md"))
    assert client.files.download(note.id).read() == b"# Title"
    response = client.files.with_raw_response.download(note.id)
    assert int(response.headers["content-length"]) == note.size_bytes
    # A file that changes shows its new content.
    session.turn("write: /mnt/session/outputs/big.txt <<< short")
    changed = wait_until(
        "the new content",
        lambda: [f for f in client.beta.files.list(scope_id=session.id) if f.filename == "big.txt" and f.size_bytes == 5],
    )
    assert client.files.download(changed[0].id).read() == b"short"


def test_hostile_outputs_are_not_followed(client, chat, server):
    """Links out of the outputs directory, odd kinds of file: nothing of the host shows."""
    session = chat(agent={"tools": [TOOLSET]})
    session.turn(
        "bash: cd /mnt/session/outputs && ln -s /etc/passwd link.txt && ln -s / root && mkfifo pipe"
        " && ln -s /mnt/session/uploads up && touch ok.txt\n"
    )
    wait_until("the plain file", lambda: [f for f in client.beta.files.list(scope_id=session.id) if f.filename == "ok.txt"])
    names = [f.filename for f in client.beta.files.list(scope_id=session.id)]
    assert names == ["ok.txt"]


def test_outputs_go_with_the_session(client, chat):
    session = chat(agent={"tools": [TOOLSET]})
    session.turn("write: /mnt/session/outputs/a.txt <<< a")
    (file,) = wait_until("the output", lambda: list(client.beta.files.list(scope_id=session.id)))
    client.beta.sessions.delete(session.id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(file.id)
    assert list(client.beta.files.list(scope_id=session.id)) == []


def test_files_in_messages(client, chat, script):
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    image = client.files.upload(file=("p.png", png, "image/png"))
    note = client.files.upload(file=("n.txt", b"plain words", "text/plain"))
    script.say("I see.")
    session = chat(script.model)
    session.turn(
        {
            "type": "user.message",
            "content": [
                {"type": "image", "source": {"type": "file", "file_id": image.id}},
                {"type": "document", "source": {"type": "file", "file_id": note.id}, "title": "Note"},
                {"type": "text", "text": "what is this?"},
            ],
        }
    )
    # The upstream knows nothing of our file ids: it gets the content.
    sent = script.requests[0].body["messages"][0]["content"]
    assert sent[0]["source"]["type"] == "base64" and sent[0]["source"]["media_type"] == "image/png"
    assert "plain words" in str(sent[1])
    with pytest.raises(anthropic.BadRequestError):
        session.send(
            {
                "type": "user.message",
                "content": [{"type": "image", "source": {"type": "file", "file_id": "file_011CZkZAAAAAAAAAAAAAAAAAA"}}],
            }
        )
