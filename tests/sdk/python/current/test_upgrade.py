"""Data directories that servers of earlier commits wrote (`crates/store/tests/upgrade`): today's server
takes them up, and every session in them goes on to its end. On PostgreSQL they are moved there first."""

import json
import os
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import anthropic
import pytest
from anthropic import Anthropic

from harness import postgres
from harness.chat import Chat, last_text, of, texts
from harness.server import Server, binary
from harness.watch import PATIENCE_S, wait_until

FIXTURES = Path(__file__).resolve().parents[4] / "crates/store/tests/upgrade"
COMMITS = sorted(path.name.removesuffix(".tar.gz") for path in FIXTURES.glob("*.tar.gz"))
CONFIG = "[rehearsal]\ndelay_ms = 0\n"


class Single(Server):
    """One process, also where other tests get replicas: the directory is the one it was made in."""


class Old:
    """The directory of one commit: what it held before today's server, and that server on it."""

    def __init__(self, folder, commit):
        self.data = folder / "data"
        with tarfile.open(FIXTURES / f"{commit}.tar.gz") as packed:
            packed.extractall(self.data, filter="data")
        self.before = stood(self.data / "freehold.db")
        self.url = self.moved(folder) if postgres.wanted() else None
        # The key is the one that the old server knew: if there is any, no other is made.
        self.server = Single(folder, None, CONFIG, key="sk-fh-upgrade-fixture", database=self.url)
        self.client = Anthropic(
            api_key=self.server.key, base_url=self.server.url, max_retries=0, _strict_response_validation=True
        )

    def moved(self, folder):
        """The directory's content in a new database of PostgreSQL; its URL."""
        url, file = postgres.cluster().database(), str(folder / "everything.zst")
        self.command("migrate")
        self.command("export", file)
        self.data = folder / "moved"
        self.command("import", file, url=url)
        (folder / "data").rename(folder / "left")
        self.data = self.data.rename(folder / "data")
        return url

    def command(self, *args, url=None):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.data.parent)}
        if url:
            env["FREEHOLD_DATABASE_URL"] = url
        command = [binary(), *args, "--data-dir", str(self.data)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def chat(self, title):
        (session,) = [s for s in self.client.beta.sessions.list(include_archived=True) if s.title == title]
        return Chat(self.client, session)

    def check(self, session):
        """The log begins as it was, and is whole."""
        listed = session.history()
        before, waiting = self.before[session.id]
        assert [e.id for e in listed][: len(before)] == [e["id"] for e in before]
        for event, payload in zip(listed, before):
            # Word for word, but for what was added to every event since.
            assert payload.items() <= json.loads(event.to_json(exclude_unset=True)).items()
        taken = [e.id for e in listed if e.type == "user.message" and e.id in waiting]
        assert taken == waiting
        session.check()
        report = json.loads(self.command("doctor", "--history", session.id, "--json", url=self.url))
        assert report["ok"], report


def stood(database):
    """By session: the events of its log, and the ids of those that waited to be taken up."""
    found = {}
    with sqlite3.connect(database) as connection:
        for (session,) in connection.execute("SELECT id FROM session"):
            rows = "SELECT payload FROM {} WHERE session_id = ? ORDER BY seq"
            log, waiting = (
                [json.loads(payload) for (payload,) in connection.execute(rows.format(table), [session])]
                for table in ("event", "inbox")
            )
            found[session] = log, [event["id"] for event in waiting]
    connection.close()
    return found


@pytest.fixture(scope="module", params=COMMITS)
def old(request, tmp_path_factory):
    old = Old(tmp_path_factory.mktemp(request.param), request.param)
    yield old
    assert old.server.stop() == 0
    assert not old.server.complaints(), old.server.complaints()


def finished(session):
    """Its history, when nothing is left to do."""

    def rests():
        listed = session.history()
        last = listed[-1]
        ended = last.type == "session.status_idle" and last.stop_reason.type == "end_turn"
        return listed if ended and all(e.processed_at for e in listed) and session.get().status == "idle" else None

    return wait_until("the session to rest", rests)


def test_there_are_such_directories():
    assert len(COMMITS) == 4


def test_what_was_queued_is_done(old):
    session = old.chat("queued")
    listed = finished(session)
    assert [texts(e) for e in of(listed, "agent.tool_result")] == ["later"]
    assert last_text(listed) == "and this"
    old.check(session)


def test_what_was_cut_goes_on(old):
    """Its call may have run, so it is reported as interrupted; then the input that waited."""
    session = old.chat("cut")
    listed = finished(session)
    (result,) = of(listed, "agent.tool_result")
    assert result.is_error
    assert [texts(e) for e in of(listed, "agent.message")][-2:] == ["slept", "more"]
    old.check(session)


def test_a_custom_tools_result_is_taken(old):
    session = old.chat("blocked")
    (use,) = of(session.history(), "agent.custom_tool_use")
    content = [{"type": "text", "text": "the second"}]
    session.send({"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": content})
    assert last_text(finished(session)) == "the second"
    old.check(session)


def test_a_confirmation_is_taken(old):
    session = old.chat("asking")
    (use,) = of(session.history(), "agent.tool_use")
    session.send({"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"})
    assert [texts(e) for e in of(finished(session), "agent.tool_result")] == ["allowed"]
    old.check(session)


def test_a_worker_takes_up_what_is_self_hosted(old, tmp_path):
    """Also where the old server knew of no workers."""
    session = old.chat("hosted")
    environment = session.get().environment_id
    path = f"/v1/freehold/environments/{environment}/keys"
    key = old.client.post(path, body={"name": "upgraded"}, cast_to=object)["key"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ANTHROPIC_BASE_URL": old.server.url}
    env |= {"ANTHROPIC_ENVIRONMENT_ID": environment, "ANTHROPIC_ENVIRONMENT_KEY": key}
    poll = [binary(), "worker", "poll", "--workdir", str(tmp_path), "--max-idle", "1s"]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(poll, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        (result,) = of(finished(session), "user.tool_result")
        assert texts(result) == "hosted"
    finally:
        worker.terminate()
        worker.wait(PATIENCE_S)
    old.check(session)


def test_the_finished_one_has_what_it_had_and_takes_another_turn(old):
    session = old.chat("finished")
    agent = session.get().agent
    assert (agent.name, agent.system, session.get().metadata) == ("a", "Be brief.", {"kept": "yes"})
    assert old.client.beta.agents.retrieve(agent.id).metadata == {"made": "before"}
    (output,) = [f for f in old.client.beta.files.list(scope_id=session.id) if f.filename == "b.txt"]
    assert old.client.beta.files.download(output.id).read() == b"output"
    before = session.history()
    session.send("read: /mnt/session/uploads/a.txt\nsay: again")
    listed = wait_until("the turn", lambda: len(session.history()) > len(before) and finished(session))
    assert "attached" in texts(of(listed, "agent.tool_result")[-1])
    assert last_text(listed) == "again"
    # The model is sent what was said before: more than in the turn before, whose beginning did not hold it all.
    turn_before = [i for i, e in enumerate(before) if e.type == "user.message"][-1]
    parts = before[turn_before:], listed[len(before) :]
    then, now = (of(part, "span.model_request_end")[0].model_usage.input_tokens for part in parts)
    assert now > then
    old.check(session)


def test_the_archived_one_is_read_and_takes_nothing(old):
    session = old.chat("archived")
    assert session.get().archived_at is not None
    assert [texts(e) for e in of(session.history(), "agent.tool_result")] == ["once"]
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        session.send("more")
    old.check(session)
