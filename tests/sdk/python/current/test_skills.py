"""Skills: uploading, versions, downloading as the SDK's worker does, and agents that use them."""

import io
import stat
import zipfile

import anthropic
import pytest
from anthropic.lib import files_from_dir
from anthropic.lib.tools._skills import download_session_skills

from conftest import TOOLSET
from harness.chat import of, texts
from harness.upstream import text

COUNT = "#!/bin/sh\nwc -l < \"$(dirname \"$0\")/data.txt\" | tr -d ' '\n"


def skill_md(name, description="Counts lines. Use when asked to count."):
    return f"---\nname: {name}\ndescription: {description}\n---\n# Counting\nRun scripts/count.sh.\n"


def parts(name="counting", md=None):
    return [
        (f"{name}/SKILL.md", (md or skill_md(name)).encode(), "text/markdown"),
        (f"{name}/scripts/count.sh", COUNT.encode(), "text/x-shellscript"),
        (f"{name}/scripts/data.txt", b"one\ntwo\nthree\n", "text/plain"),
    ]


@pytest.fixture
def skill(client):
    return client.skills.create(files=parts())


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, mode, body in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, body)
    return out.getvalue()


def test_from_a_folder(client, tmp_path):
    folder = tmp_path / "counting"
    (folder / "scripts").mkdir(parents=True)
    for path, body, _ in parts():
        (tmp_path / path).write_bytes(body)
    made = client.skills.create(files=files_from_dir(folder), display_name="Count things")
    assert (made.type, made.display_name, made.source.type) == ("skill", "Count things", "custom")
    assert client.skills.retrieve(made.id) == made
    assert made.id in [one.id for one in client.skills.list(source="custom")]
    assert list(client.skills.list(source="anthropic")) == []
    version = client.skills.versions.retrieve("latest", skill_id=made.id)
    assert (version.type, version.id, version.skill_id) == ("skill_version", made.latest_version_id, made.id)
    assert (version.name, version.description) == ("counting", "Counts lines. Use when asked to count.")


def test_from_a_zip_and_back(client):
    body = zipped([("SKILL.md", 0o644, skill_md("zipped")), ("bin/run", 0o755, "x"), ("plain", 0o644, "y")])
    made = client.skills.create(files=[("zipped.zip", body, "application/zip")])
    assert made.display_name == "zipped"
    content = client.beta.skills.versions.download(made.latest_version_id, skill_id=made.id).read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        modes = {info.filename: (info.external_attr >> 16) & 0o777 for info in archive.infolist()}
    assert modes == {"zipped/SKILL.md": 0o644, "zipped/bin/run": 0o755, "zipped/plain": 0o644}


def test_versions(client, skill):
    first = skill.latest_version_id
    better = skill_md("counting", "Counts better.")
    second = client.skills.versions.create(skill.id, files=parts(md=better))
    assert second.description == "Counts better." and second.id != first
    assert client.skills.retrieve(skill.id).latest_version_id == second.id
    walked = [version.id for version in client.skills.versions.list(skill.id, limit=1)]
    assert walked == [second.id, first]
    with pytest.raises(anthropic.BadRequestError, match="same name"):
        client.skills.versions.create(skill.id, files=parts("other"))
    gone = client.skills.versions.delete(second.id, skill_id=skill.id)
    assert (gone.id, gone.type) == (second.id, "skill_version_deleted")
    assert client.skills.retrieve(skill.id).latest_version_id == first
    with pytest.raises(anthropic.BadRequestError, match="at least one version"):
        client.skills.versions.delete(first, skill_id=skill.id)
    gone = client.beta.skills.delete(skill.id)
    assert (gone.id, gone.type) == (skill.id, "skill_deleted")
    for call in (client.skills.retrieve, client.beta.skills.retrieve, client.skills.delete):
        with pytest.raises(anthropic.NotFoundError, match=skill.id):
            call(skill.id)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([("s/README.md", b"x")], "SKILL.md"),
        ([("s/SKILL.md", b"# nothing in front")], "front matter"),
        ([("s/SKILL.md", skill_md("Not A Slug").encode())], "`name`"),
        ([("s/SKILL.md", skill_md("my-claude").encode())], "claude"),
        ([("s/SKILL.md", skill_md("ok").encode()), ("s/../../x", b"")], "goes up"),
        ([("s.zip", zipped([("../SKILL.md", 0o644, skill_md("ok"))]))], "goes up"),
        ([("s.zip", zipped([("SKILL.md", 0o644, skill_md("ok")), ("zeros", 0o644, b"0" * 20_000_000)]))], "times"),
        ([("s.zip", b"PK\x03\x04 garbage")], "damaged"),
    ],
)
def test_what_is_no_skill(client, files, says):
    before = [one.id for one in client.skills.list()]
    with pytest.raises(anthropic.BadRequestError, match=says):
        client.skills.create(files=files)
    assert [one.id for one in client.skills.list()] == before


def test_an_agent_runs_a_skill(client, chat, skill):
    reference = {"type": "custom", "skill_id": skill.id}
    session = chat(agent={"tools": [TOOLSET], "skills": [reference]})
    pinned = session.created.agent.skills[0]
    assert (pinned.type, pinned.skill_id, pinned.version) == ("custom", skill.id, skill.latest_version_id)
    watch = session.turn(
        "read: /skills/counting/SKILL.md\n"
        "bash: /skills/counting/scripts/count.sh\n"
        "bash: cd /skills/counting && echo x >> SKILL.md\n"
        "write: /skills/counting/new <<< x\n"
        "bash: ls -A /skills"
    )
    read, ran, appended, wrote, listed = of(watch.seen, "agent.tool_result")
    assert "# Counting" in texts(read)
    assert texts(ran).strip() == "3", texts(ran)
    assert appended.is_error and wrote.is_error
    assert texts(listed).split() == ["counting"]


def test_the_model_is_told(chat, skill, script):
    script.say(text("I know."))
    agent = {"tools": [TOOLSET], "skills": [{"type": "custom", "skill_id": skill.id}], "system": "Be brief."}
    session = chat(script.model, agent=agent)
    session.turn("What can you do?")
    system = [block["text"] for block in script.last.body["system"]]
    assert system[0] == "Be brief."
    assert "- counting: Counts lines. Use when asked to count. (/skills/counting/SKILL.md)" in system[-1]


def test_a_session_does_not_change_with_its_skill(client, chat, skill):
    session = chat(agent={"tools": [TOOLSET], "skills": [{"type": "custom", "skill_id": skill.id}]})
    client.skills.versions.create(skill.id, files=parts(md=skill_md("counting", "Newer.")))
    client.skills.delete(skill.id)
    watch = session.turn("bash: grep description /skills/counting/SKILL.md")
    assert "Counts lines" in texts(of(watch.seen, "agent.tool_result")[0])


async def download(aclient, session_id, folder):
    session = await aclient.beta.sessions.retrieve(session_id)
    return await download_session_skills(aclient, workdir=folder, session=session)


def test_the_sdks_worker_unpacks_them(client, aclient, chat, skill, tmp_path):
    import asyncio

    session = chat(agent={"tools": [TOOLSET], "skills": [{"type": "custom", "skill_id": skill.id}]})
    (made,) = asyncio.run(download(aclient, session.id, tmp_path))
    assert made == tmp_path / "skills" / "counting"
    assert "# Counting" in (made / "SKILL.md").read_text()
    assert (made / "scripts/count.sh").stat().st_mode & 0o111
    assert not (made / "scripts/data.txt").stat().st_mode & 0o111


def test_agents_with_what_is_not_there(client, make_agent, skill):
    for reference, says in (
        ({"type": "custom", "skill_id": "skill_01unknown"}, "skill_01unknown"),
        ({"type": "custom", "skill_id": skill.id, "version": "skver_01unknown"}, "skver_01unknown"),
    ):
        with pytest.raises(anthropic.NotFoundError, match=says):
            make_agent(tools=[TOOLSET], skills=[reference])
    with pytest.raises(anthropic.BadRequestError, match="hosted platform"):
        make_agent(tools=[TOOLSET], skills=[{"type": "anthropic", "skill_id": "pptx"}])
