"""The compose files, read by docker-compose itself."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import DEPLOY, HERE, freehold, knows, must, program, usable

FOLDER = DEPLOY / "compose"
FILES = [["compose.yaml"], ["compose.yaml", "sandboxes.yaml"]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A copy, with secrets."""
    to = tmp_path_factory.mktemp("compose") / "deploy/compose"
    shutil.copytree(FOLDER, to, ignore=shutil.ignore_patterns("secrets"))
    (to.parent / "said").write_text(must(["sh", str(to / "secrets.sh")]))
    return to


def read(folder: Path, files: list[str]) -> dict:
    command = [program("docker-compose")]
    for file in files:
        command += ["-f", file]
    # The wrapper of the package keeps the status to itself: what it printed is what counts.
    return json.loads(must([*command, "--profile", "*", "config", "--format", "json"], cwd=folder))


def test_yaml_is_plain():
    files = [str(p) for p in FOLDER.glob("*.yaml")]
    must([program("yamllint"), "--strict", "-c", str(HERE / "yamllint.yaml"), *files])


@pytest.mark.parametrize("files", FILES, ids=len)
def test_compose_takes_them(folder, files):
    services = read(folder, files)["services"]
    assert set(services) == {
        "server-1", "server-2", "proxy", "postgres", "storage", "bucket", "worker", "gateway"
    }  # fmt: skip
    for name, service in services.items():
        assert name == "bucket" or service["healthcheck"]["test"], name
        assert "privileged" not in service and service.get("network_mode") is None, name


def test_only_the_proxy_is_reached_from_outside(folder):
    whole = read(folder, ["compose.yaml"])
    published = {
        (name, p.get("host_ip"), p["target"]) for name, s in whole["services"].items() for p in s.get("ports", [])
    }
    assert published == {("proxy", "127.0.0.1", 8787), ("proxy", None, 8788)}
    assert whole["networks"]["back"]["internal"] is True
    for name in ("postgres", "storage", "bucket"):
        assert set(whole["services"][name]["networks"]) == {"back"}


def test_no_secret_is_a_variable_or_an_argument(folder):
    whole = read(folder, ["compose.yaml"])
    values = [p.read_text().strip() for p in (folder / "secrets").iterdir()]
    text = json.dumps(whole)
    assert len(values) == 6 and not any(v.splitlines()[0] in text for v in values if "BEGIN" not in v)
    for name, service in whole["services"].items():
        for variable in service.get("environment") or {}:
            hidden = re.search("KEY|PASSWORD|SECRET|TOKEN", variable)
            assert not hidden or variable.endswith("_FILE"), (name, variable)


def test_secrets_are_private_and_kept(folder):
    secrets = folder / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    before = {p.name: p.read_bytes() for p in secrets.iterdir()}
    said = must(["sh", str(folder / "secrets.sh")])
    assert said == (folder.parent / "said").read_text()
    assert re.fullmatch("[0-9a-f]{64}", said.splitlines()[-1])
    assert {p.name: p.read_bytes() for p in secrets.iterdir()} == before
    # They are in no commit.
    must(["git", "check-ignore", "-q", str(FOLDER / "secrets/master_key")], cwd=DEPLOY)


def test_our_commands_have_these_flags_and_variables(folder):
    services = read(folder, ["compose.yaml"])["services"]
    for name in ("worker", "gateway"):
        knows(services[name]["command"])
    known = freehold("worker", "poll", "--help").stdout
    for variable in services["worker"]["environment"]:
        assert f"env: {variable}" in known, variable


def test_the_configuration_can_be_used(folder, tmp_path):
    text = (folder / "freehold.toml").read_text()
    usable(text, tmp_path)
    # Every file it names is a secret that servers are given.
    named = set(re.findall(r'"/run/secrets/(\w+)"', re.sub("(?m)^#.*", "", text)))
    for server in ("server-1", "server-2"):
        given = {s["source"] for s in read(folder, ["compose.yaml"])["services"][server]["secrets"]}
        assert given == named


def test_the_gateway_takes_its_configuration(folder, tmp_path):
    text = (folder / "gateway.yaml").read_text().replace("/var/lib/freehold", str(tmp_path))
    (tmp_path / "config.yaml").write_text(text)
    done = freehold("gateway", "doctor", "--json", "--config", str(tmp_path / "config.yaml"))
    # It is understood; certificate, token and edge are not there.
    assert done.returncode == 1, done.stderr
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["configuration"]["level"] == "ok", checks


def test_the_proxy_takes_its_configuration(folder, tmp_path):
    # Debian's nginx is older than the image's: it does not look names up again in an upstream, and
    # finds its modules elsewhere.
    text = (folder / "proxy.conf").read_text()
    text = re.sub(r"(:\d+) resolve", r"\1", text).replace("/var/run/nginx.pid", f"{tmp_path}/pid")
    text = re.sub(r"server-[12]:", "127.0.0.1:", text)
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if module.exists():
        text = f"load_module {module};\n{text}"
    elif not re.search("--with-stream( |$)", must(["sh", "-c", "nginx -V 2>&1"])):
        text = text[: text.index("# Gateways' TLS")]
    (tmp_path / "nginx.conf").write_text(text)
    must(["nginx", "-t", "-q", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
