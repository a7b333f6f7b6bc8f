"""The Helm chart, rendered by Helm and held against Kubernetes' own schemas."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import CHART, HERE, documents, freehold, knows, must, program, ran, usable

VALUES = {p.stem: p for p in sorted(HERE.glob("values/*.yaml"))}
KUBERNETES = ["1.30", "1.33", "1.36"]
KINDS = ("Deployment", "StatefulSet")


def render(helm: str, values: Path | None = None, *more: str) -> list[dict[str, Any]]:
    command = [helm, "template", "test", str(CHART), "--namespace", "agents", *more]
    return documents(must([*command, "-f", str(values)] if values else command))


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["spec"]["template"]["spec"]["containers"]


@pytest.fixture(params=VALUES.values(), ids=VALUES.keys())
def rendered(helm, request) -> list[dict[str, Any]]:
    return render(helm, request.param)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_helm_lint(helm, values):
    must([helm, "lint", "--strict", str(CHART), "-f", str(values)])


def test_yaml_is_plain():
    files = [str(CHART / "Chart.yaml"), str(CHART / "values.yaml")]
    must([program("yamllint"), "--strict", "-c", str(HERE / "yamllint.yaml"), *files])


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(rendered, version):
    for document in rendered:
        kubernetes_validate.validate(document, version, strict=True)


def test_names_are_used_once(rendered):
    names = [(d["kind"], d["metadata"]["name"]) for d in rendered]
    assert len(names) == len(set(names))


def test_the_configuration_can_be_used(rendered, tmp_path):
    found = 0
    for document in rendered:
        for name, text in document.get("data", {}).items():
            if name.endswith(".toml"):
                usable(text, tmp_path)
                found += 1
            else:
                (tmp_path / name).write_text(text)
                done = freehold("gateway", "doctor", "--json", "--config", str(tmp_path / name))
                assert done.returncode == 1 and '"configuration"' in done.stdout, done.stderr
    assert found


def test_every_file_that_is_named_is_mounted(rendered):
    config = next(d for d in rendered if d["kind"] == "ConfigMap" and "freehold.toml" in d["data"])
    server = next(d for d in rendered if d["kind"] == "StatefulSet" and d["metadata"]["name"] == "test")
    named = set(re.findall(r'"/run/secrets/([\w.-]+)"', config["data"]["freehold.toml"]))
    volumes = {v["name"]: v for v in server["spec"]["template"]["spec"]["volumes"]}
    sources = volumes.get("secrets", {}).get("projected", {}).get("sources", [])
    given = [item["path"] for source in sources for item in source["secret"]["items"]]
    assert named == set(given) and len(given) == len(set(given))
    mounts = {m["name"] for d in rendered if d["kind"] in KINDS for c in containers(d) for m in c["volumeMounts"]}
    claims = {c["metadata"]["name"] for d in rendered for c in d.get("spec", {}).get("volumeClaimTemplates", [])}
    every = {v["name"] for d in rendered if d["kind"] in KINDS for v in d["spec"]["template"]["spec"]["volumes"]}
    assert mounts == every | claims


def test_commands_have_these_flags(rendered):
    for document in rendered:
        if document["kind"] in KINDS:
            for container in containers(document):
                knows([str(a) for a in container["args"]])


def test_pods_can_do_little(rendered):
    for document in rendered:
        if document["kind"] not in KINDS:
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        for container in containers(document):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            if security.get("privileged"):
                continue
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            if security.get("procMount") == "Unmasked":
                assert pod["hostUsers"] is False
            else:
                assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_there_is_no_secret_in_it(rendered, helm):
    assert "Secret" not in {d["kind"] for d in rendered}
    for document in rendered:
        if document["kind"] in KINDS:
            assert all("env" not in c for c in containers(document))
    # A password in a URL would be in the ConfigMap.
    done = ran([helm, "template", "t", str(CHART), "--set", "replicas=1,database.url=postgres://a:secret@b/c"])
    assert done.returncode != 0 and "database" in done.stderr


def test_probes_and_time_to_stop(rendered):
    server = next(d for d in rendered if d["kind"] == "StatefulSet" and d["metadata"]["name"] == "test")
    (container,) = containers(server)
    probes = {k: container[f"{k}Probe"]["httpGet"]["path"] for k in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # A server takes ten seconds from SIGTERM.
    assert server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= wait + 12


def test_services_and_policies_select_what_there_is(rendered):
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in rendered if d["kind"] in KINDS]
    ports = {p["name"] for d in rendered if d["kind"] in KINDS for c in containers(d) for p in c.get("ports", [])}

    def matches(selector: dict[str, str]) -> bool:
        return any(selector.items() <= labels.items() for labels in pods)

    for document in rendered:
        spec = document.get("spec", {})
        match document["kind"]:
            case "Service":
                assert matches(spec["selector"])
                assert {p["targetPort"] for p in spec["ports"]} <= ports
            case "NetworkPolicy":
                assert matches(spec["podSelector"]["matchLabels"])
                named = {p["port"] for rule in spec["ingress"] for p in rule.get("ports", [])}
                assert named <= ports
            case "PodDisruptionBudget":
                assert matches(spec["selector"]["matchLabels"])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "more than one needs database.url"),
        ({"replica": 1}, "replica"),
        ({"replicas": 1, "storage": {"blobs": "s3://b"}}, "storage.blobs: accessKeyId"),
        ({"replicas": 1, "preStopSeconds": 20}, "terminationGracePeriodSeconds"),
        ({"replicas": 1, "masterKeySecret": {"value": "abc"}}, "masterKeySecret"),
        ({"replicas": 1, "worker": {"enabled": True}}, "worker: environmentId"),
        ({"replicas": 1, "gateway": {"enabled": True}}, "gateway: tunnelDomain"),
        ({"replicas": 1, "sandbox": {"privileges": "some"}}, "privileges"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_would_not_work_is_refused(helm, tmp_path, values, why):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = ran([helm, "template", "t", str(CHART), "-f", str(tmp_path / "values.yaml")])
    assert done.returncode != 0 and why in done.stderr, done.stderr


def test_another_configuration_restarts_the_pods(helm):
    def checksum(*more: str) -> str:
        server = next(d for d in render(helm, VALUES["replicas"], *more) if d["kind"] == "StatefulSet")
        return server["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum()
    assert checksum() != checksum("--set", "logLevel=debug")
