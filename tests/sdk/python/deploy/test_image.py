"""The Dockerfile."""

from conftest import DEPLOY, ROOT, knows, must, program, usable


def lines() -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_hadolint_has_nothing_to_say():
    must([program("hadolint"), "--failure-threshold", "style", str(DEPLOY / "Dockerfile")])


def test_it_runs_as_an_ordinary_user():
    users = [line.split()[1] for line in lines() if line.startswith("USER")]
    assert users == ["10001:10001"]
    assert lines().index("USER 10001:10001") > max(i for i, line in enumerate(lines()) if line.startswith("RUN"))


def test_nothing_secret_can_get_into_a_layer():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    # Everything is out but what is named, and no name is of a place where keys or data are.
    assert rules[0] == "*"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    assert named == {"Cargo.toml", "Cargo.lock", "crates", "xtask", "deploy/freehold.toml"}
    given = [line for line in lines() if line.startswith(("ARG", "ENV"))]
    assert given == ['ARG SANDBOX_PACKAGES="git python3"']


def test_what_it_starts_is_a_command_of_the_binary(tmp_path):
    start = next(line for line in lines() if line.startswith("CMD"))
    assert start == 'CMD ["serve", "--config", "/etc/freehold/freehold.toml"]'
    knows(["serve", "--config"])
    usable((DEPLOY / "freehold.toml").read_text(), tmp_path)
