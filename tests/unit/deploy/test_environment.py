"""What a pod tells its agent, written and read back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.deploy.jobs import make_job
from trainer.deploy import ReadyFile, Surroundings
from trainer.deploy.environment import parse_labels, pod_environment
from trainer.deploy.quantity import half, value


def test_nothing_said_means_nothing_known():
    assert Surroundings.read({}) == Surroundings()


def test_a_pods_variables_are_read_back():
    """1. The kubelet fills in the fields. 2. `$(NAME)` takes earlier ones. 3. The agent reads."""
    facts = {
        "metadata.name": "demo-3-x7k2p",
        "status.podIP": "10.0.0.7",
        "spec.nodeName": "machine-a",
        "metadata.labels['topology.kubernetes.io/zone']": "eu-1a",
        "metadata.labels['topology.kubernetes.io/region']": "",
        "metadata.annotations['batch.kubernetes.io/job-completion-index']": "3",
    }
    environ: dict[str, str] = {}
    for variable in pod_environment(make_job()):
        if "valueFrom" in variable:
            text = facts[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            text = re.sub(r"\$\((\w+)\)", lambda m: environ[m[1]], variable["value"])
        environ[variable["name"]] = text
    found = Surroundings.read(environ, exists=lambda path: True)
    assert found == Surroundings(
        node="demo-3-x7k2p",
        host="10.0.0.7",
        labels={
            "kubernetes.io/hostname": "machine-a",
            "topology.kubernetes.io/zone": "eu-1a",
            "index": "3",
        },
        ready_file=Path("/tmp/remesh/ready"),
        ca=Path("/etc/remesh/tls/ca.crt"),
        certificate=Path("/etc/remesh/tls/tls.crt"),
        key=Path("/etc/remesh/tls/tls.key"),
        token_file=Path("/etc/remesh/token/token"),
    )
    without = Surroundings.read(environ, exists=lambda path: path.name == "tls.crt")
    assert (without.certificate, without.key) == (None, None)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1,b=,=c,d", {"a": "1"}),
        (" a = 1 , b=x=y", {"a": "1", "b": "x=y"}),
    ],
)
def test_labels(text, labels):
    assert parse_labels(text) == labels


def test_the_ready_file_comes_and_goes(tmp_path):
    path = tmp_path / "deep" / "ready"
    ready = ReadyFile(path)
    ready.set(False)
    ready.set(True)
    ready.set(True)
    assert path.exists()
    ready.set(False)
    assert not path.exists()
    ReadyFile(None).set(True)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("500m", 0.5), ("1.5Gi", 1.5 * 2**30), ("3k", 3000), ("2M", 2e6), ("1Ti", 2**40)],
)
def test_quantities(text, number):
    assert float(value(text)) == number


def test_halves_of_memory_are_whole_mebibytes():
    assert half("8Gi") == "4096Mi"
    assert half("1Mi") == "1Mi"
    with pytest.raises(ValueError, match="no quantity"):
        value("two")
