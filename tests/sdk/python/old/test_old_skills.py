"""Skills as SDK 0.97 reads them: the legacy form, with versions addressed by their microsecond."""

import io
import zipfile

import pytest

SKILL_MD = b"---\nname: counting\ndescription: Counts.\n---\n"


@pytest.fixture
def skill(client):
    return client.beta.skills.create(display_title="Count things", files=[("counting/SKILL.md", SKILL_MD)])


def test_a_skill_and_its_version(client, skill):
    assert (skill.type, skill.display_title, skill.source) == ("skill", "Count things", "custom")
    assert skill.latest_version.isdigit()
    assert client.beta.skills.retrieve(skill.id).model_dump() == skill.model_dump()
    assert skill.id in [one.id for one in client.beta.skills.list(limit=1)]
    version = client.beta.skills.versions.retrieve(skill.latest_version, skill_id=skill.id)
    assert (version.name, version.directory, version.description) == ("counting", "counting", "Counts.")
    assert version.version == skill.latest_version


def test_versions_come_and_go(client, skill):
    second = client.beta.skills.versions.create(skill.id, files=[("counting/SKILL.md", SKILL_MD)])
    assert int(second.version) > int(skill.latest_version)
    walked = [one.version for one in client.beta.skills.versions.list(skill.id, limit=1)]
    assert walked == [second.version, skill.latest_version]
    gone = client.beta.skills.versions.delete(second.version, skill_id=skill.id)
    assert (gone.id, gone.type) == (second.version, "skill_version_deleted")
    gone = client.beta.skills.delete(skill.id)
    assert (gone.id, gone.type) == (skill.id, "skill_deleted")


def test_content(client, skill):
    path = f"/v1/skills/{skill.id}/versions/{skill.latest_version}/content"
    content = client.get(path, cast_to=bytes, options={"headers": {"anthropic-beta": "skills-2025-10-02"}})
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["counting/SKILL.md"]
