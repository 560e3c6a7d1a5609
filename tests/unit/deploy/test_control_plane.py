"""The control plane as it would reach a cluster: base and overlays."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rendezvous.service import cli
from tests.unit.deploy import kustomize
from tests.unit.deploy.jobs import by_kind, make_job
from trainer.deploy import Request, render, rules, schema
from trainer.deploy.rules.pods import restricted

ROOT = Path(__file__).parents[3] / "deploy" / "control-plane"
DIRECTORIES = {"base": ROOT / "base", **{p.name: p for p in sorted(ROOT.glob("overlays/*"))}}
NEWEST_ETCD_THAT_LOST_DATA = (3, 5, 5)


def built(name: str) -> list[dict[str, Any]]:
    return kustomize.build(DIRECTORIES[name])


def workloads(name: str) -> list[dict[str, Any]]:
    return [one for one in built(name) if one["kind"] in ("Deployment", "StatefulSet")]


def container(name: str, kind: str) -> dict[str, Any]:
    return by_kind(built(name), kind)["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_overlay_would_be_accepted(name):
    manifests = built(name)
    assert rules.problems(manifests) == []
    assert schema.problems(manifests, schema.newest_versions()) == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("name", DIRECTORIES)
def test_kubectl_builds_the_same(name):
    done = subprocess.run(
        ["kubectl", "kustomize", str(DIRECTORIES[name])],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    theirs = {kustomize.identity(one): one for one in yaml.safe_load_all(done.stdout)}
    ours = {kustomize.identity(one): one for one in built(name)}
    assert theirs.keys() == ours.keys()
    for key, manifest in ours.items():
        assert in_one_order(manifest) == in_one_order(theirs[key])


def in_one_order(value: Any) -> Any:
    """kubectl puts patched-in items of named lists first, we last; their order means nothing."""
    if isinstance(value, dict):
        return {key: in_one_order(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [in_one_order(item) for item in value]
        named = all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: item["name"]) if named else items
    return value


@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_pod_is_restricted_and_has_requests_and_probes(name):
    for workload in workloads(name):
        pod = workload["spec"]["template"]["spec"]
        assert list(restricted(pod)) == []
        assert pod["automountServiceAccountToken"] is False
        for one in pod["containers"]:
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"cpu", "memory"} <= one["resources"]["requests"].keys()
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= one.keys()


def test_the_base_has_three_etcd_and_two_replicas_that_go_one_at_a_time():
    manifests = built("base")
    assert by_kind(manifests, "StatefulSet")["spec"]["replicas"] == 3
    deployment = by_kind(manifests, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    for name in ("remesh-etcd", "remesh-rendezvous"):
        budget = by_kind(manifests, "PodDisruptionBudget", name)["spec"]
        workload = next(one for one in workloads("base") if one["metadata"]["name"] == name)
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == workload["spec"]["selector"]
    assert {one["kind"] for one in built("external-etcd")}.isdisjoint({"StatefulSet"})
    assert [one["spec"]["replicas"] for one in workloads("one-node")] == [1, 1]


@pytest.mark.parametrize("name", ["base", "tls", "one-node"])
def test_etcd_is_new_enough_and_its_members_name_each_other(name):
    etcd = container(name, "StatefulSet")
    version = re.search(r":v(\d+)\.(\d+)\.(\d+)$", etcd["image"])
    assert version is not None
    assert tuple(map(int, version.groups())) > NEWEST_ETCD_THAT_LOST_DATA
    cluster = next(one["value"] for one in etcd["env"] if one["name"] == "CLUSTER")
    replicas = by_kind(built(name), "StatefulSet")["spec"]["replicas"]
    assert [member.partition("=")[0] for member in cluster.split(",")] == [
        f"remesh-etcd-{index}" for index in range(replicas)
    ]
    store = by_kind(built(name), "ConfigMap")["data"]["store"]
    assert store.count(":2379") == replicas
    scheme = "https" if name == "tls" else "http"
    assert cluster.count(f"{scheme}://") == replicas
    assert store.startswith("etcds://" if name == "tls" else "etcd://")


@pytest.mark.parametrize("name", DIRECTORIES)
def test_the_service_takes_the_flags_it_is_given(name):
    rendezvous = container(name, "Deployment")
    arguments = [one.replace("$(POD_IP)", "10.0.0.7") for one in rendezvous["args"]]
    if "command" not in rendezvous:
        assert arguments.pop(0) == "rendezvous"
        assert arguments.pop(0) == "serve"
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    parsed = parser.parse_args(["serve", *arguments])
    assert parsed.listen == "0.0.0.0:29400"
    assert parsed.token_file == "/etc/remesh/token/token"
    assert parsed.insecure is (name != "tls")
    assert (parsed.tls_cert is not None) is (name == "tls")
    if name != "tls":
        assert parsed.advertise == "10.0.0.7:29400"


def test_with_tls_a_replica_is_known_by_a_name_that_a_certificate_can_hold(tmp_path):
    """The shell of the overlay, run with a `remesh` that shows what it was called with."""
    fake = tmp_path / "remesh"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    command = container("tls", "Deployment")["command"]
    assert command[:2] == ["tini", "--"]
    for address, name in (("10.0.0.7", "10-0-0-7"), ("fd00::7", "fd00--7")):
        done = subprocess.run(
            [*command[2:], "--listen=0.0.0.0:29400"],
            env={
                "PATH": f"{tmp_path}:/usr/bin:/bin",
                "POD_IP": address,
                "POD_NAMESPACE": "remesh-system",
            },
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines() == [
            "rendezvous",
            "serve",
            f"--advertise={name}.remesh-rendezvous-replicas.remesh-system.svc:29400",
            "--listen=0.0.0.0:29400",
        ]


def test_probes_ask_grpc_where_the_kubelet_can():
    plain = container("base", "Deployment")
    assert plain["readinessProbe"]["grpc"]["service"] == "remesh.rendezvous.v1.Rendezvous"
    assert all("grpc" in plain[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    secure = container("tls", "Deployment")
    assert all("grpc" not in secure[f"{kind}Probe"] for kind in ("startup", "readiness"))


def test_agents_alone_reach_the_service_and_it_alone_reaches_etcd():
    manifests = built("base")
    service = by_kind(manifests, "NetworkPolicy", "remesh-rendezvous")["spec"]
    agent = render(Request(job=make_job()))[-1]["spec"]["template"]["metadata"]["labels"]
    let_in = service["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert let_in.items() <= agent.items()
    etcd = by_kind(manifests, "NetworkPolicy", "remesh-etcd")["spec"]
    sources = [one["from"][0]["podSelector"]["matchLabels"] for one in etcd["ingress"][:2]]
    assert sources == [
        {"app.kubernetes.io/name": "remesh-rendezvous"},
        {"app.kubernetes.io/name": "remesh-etcd"},
    ]
    for policy in (service, etcd):
        assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_a_job_finds_the_service_and_token_by_their_default_names():
    manifests = built("base")
    service = by_kind(manifests, "Service", "remesh-rendezvous")
    section = make_job().kubernetes
    namespace = service["metadata"]["namespace"]
    port = service["spec"]["ports"][0]["port"]
    assert section.rendezvous == (f"{service['metadata']['name']}.{namespace}.svc:{port}",)
    pod = by_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    secrets = [one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one]
    assert secrets == [section.token_secret]
