"""What a pod tells its agent, written and read back."""

from __future__ import annotations

import re

import pytest

from tests.unit.deploy.jobs import make_job
from trainer.agent.hands import SHOW_VARIABLE
from trainer.agent.readiness import VARIABLE, ReadyFile
from trainer.deploy.environment import READY_FILE, SHOW_WORKERS, identity_arguments, pod_environment
from trainer.deploy.quantity import half, value


def test_a_pods_flags_say_who_it_is():
    """1. The kubelet fills in the fields. 2. `$(NAME)` in the flags takes their values."""
    facts = {
        "metadata.name": "demo-3-x7k2p",
        "status.podIP": "10.0.0.7",
        "spec.nodeName": "machine-a",
        "metadata.labels['topology.kubernetes.io/zone']": "eu-1a",
        "metadata.labels['topology.kubernetes.io/region']": "",
        "metadata.annotations['batch.kubernetes.io/job-completion-index']": "3",
    }
    environ = {
        variable["name"]: facts[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in pod_environment(make_job())
        if "valueFrom" in variable
    }
    filled = [
        re.sub(r"\$\((\w+)\)", lambda match: environ[match[1]], argument)
        for argument in identity_arguments(make_job())
    ]
    assert filled == [
        "--node", "demo-3-x7k2p",
        "--local-addr", "10.0.0.7",
        "--label", "kubernetes.io/hostname=machine-a",
        "--label", "topology.kubernetes.io/zone=eu-1a",
        "--label", "topology.kubernetes.io/region=",
        "--label", "index=3",
    ]  # fmt: skip


def test_the_ready_file_comes_and_goes(tmp_path):
    path = tmp_path / "deep" / "ready"
    ready = ReadyFile(path)
    ready.set(False)
    ready.set(True)
    ready.set(True)
    assert path.exists()
    ready.set(False)
    assert not path.exists()
    ReadyFile.named_in({}).set(True)


def test_the_ready_file_is_named_by_the_environment(tmp_path):
    ReadyFile.named_in({"REMESH_READY_FILE": str(tmp_path / "ready")}).set(True)
    assert (tmp_path / "ready").exists()
    assert (READY_FILE, SHOW_WORKERS) == (VARIABLE, SHOW_VARIABLE)


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
