"""Rendered manifests, run: etcd, rendezvous and agents as a cluster would start them, and what
befalls them there. Each job ends with the undisturbed run's weights, to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.deploy.cluster import Cluster, cluster
from tests.integration.deploy.kubelet import Pod, variables
from tests.unit.deploy import kustomize
from trainer.deploy import Request, render
from trainer.job import Job, load

CONTROL_PLANE = Path(__file__).parents[3] / "deploy" / "control-plane" / "base"
CORPUS = ("the quick brown fox jumps over the lazy dog; " * 40 + "\n") * 24
TOKEN = "a-token-for-the-tests"
STEPS = 160
PACE = 0.75
"""Seconds that each step takes at least where something is to happen meanwhile."""
LEFT, KILLED = 75, 137


def description(folder: Path, pace: float = 0.0, **elastic: Any) -> dict[str, Any]:
    """A small job for a slow machine: patient where a cluster's would not be. `pace` slows it."""
    slow = {"kind": "slow", "rate": 1.0, "rank": 0, "seconds": pace, "times": 10 * STEPS}
    (folder / "corpus.txt").write_text(CORPUS)
    return {
        "name": "demo",
        "model": {"preset": "debug", "dim": 32, "layers": 2, "heads": 2, "dropout": 0.1},
        "data": {"path": str(folder / "corpus.txt"), "seq_len": 32},
        "train": {"steps": STEPS, "pieces": 4, "clip": 0.5},
        "checkpoint": {"every": 20},
        "elastic": {
            "nodes": "1:4",
            "nproc_per_node": 1,
            "mirror_every": 5,
            "beat_timeout": 15,
            "reconnect_grace": 2,
            "grow_interval": 1,
            "drain_grace": 90,
            "join_timeout": 300,
            **elastic,
        },
        "faults": [slow] if pace else [],
        "kubernetes": {
            "volumes": [{"name": "runs", "mount": "/var/lib/remesh", "claim": "remesh-runs"}]
        },
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the same job on one node that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "job.yaml").write_text(yaml.safe_dump(description(folder, nodes="1")))
    subprocess.run(
        [sys.executable, "-m", "trainer.command", "run", "job.yaml", "--set", "run.id=alone"],
        cwd=folder, env=variables(), timeout=600, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return str(
        json.loads((folder / "runs" / "alone" / "summary.json").read_text())["weights_sha256"]
    )


class Site:
    """The cluster, its control plane, and one job on it."""

    def __init__(self, made: Cluster, folder: Path) -> None:
        self.cluster = made
        self.folder = folder
        self.target = ""
        secret = {"kind": "Secret", "metadata": {"name": "remesh-token"}, "data": {"token": TOKEN}}
        made.add([secret, *kustomize.build(CONTROL_PLANE)])
        rendezvous = made.of("remesh-rendezvous")
        made.until(lambda: all(pod.ready for pod in rendezvous), "a rendezvous that serves")

    def submit(self, target: str, nodes: int, pace: float = PACE) -> None:
        """Render for a number of nodes out of the job's one to four, and start it."""
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(description(self.folder, pace)))
        job: Job = load(path)
        manifests = render(Request(job=job, target=target, run_id="r1", namespace="team"))
        self.target = "demo-agents" if target == "spot" else "demo"
        # What a cluster runs beside the agents (here: the spot job's coordinator) has other tests.
        holder = [
            one
            for one in manifests
            if one["kind"] in ("ConfigMap", "Service") or one["metadata"]["name"] == self.target
        ]
        for one in holder:
            if one["kind"] in ("Job", "Deployment"):
                self.resize(one, nodes)
        self.cluster.add(holder)

    def resize(self, manifest: dict[str, Any], nodes: int) -> None:
        """What `remesh scale` patches."""
        keys = ("replicas",) if manifest["kind"] == "Deployment" else ("parallelism", "completions")
        manifest["spec"].update(dict.fromkeys(keys, nodes))

    def scale(self, nodes: int) -> None:
        self.resize(self.cluster.controller(self.target).manifest, nodes)

    @property
    def agents(self) -> list[Pod]:
        return sorted(self.cluster.of(self.target), key=lambda pod: pod.name)

    @property
    def run(self) -> Path:
        return self.cluster.world.claim("remesh-runs") / "runs" / "r1"

    def step(self) -> int:
        lines = self.lines("metrics.jsonl")
        return int(lines[-1]["step"]) if lines else 0

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.run / name
        if not path.exists():
            return []
        text = path.read_text()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def generations(self) -> list[dict[str, Any]]:
        return [one for one in self.lines("events.jsonl") if one["event"] == "generation.begin"]

    def world_size(self) -> int:
        begun = self.generations()
        return int(begun[-1]["world_size"]) if begun else 0

    def train_on(self, nodes: int) -> None:
        """Until the job runs on so many nodes, all of them ready, and has made a step there."""
        self.cluster.until(
            lambda: (
                self.world_size() == nodes
                and len(self.agents) == nodes
                and all(pod.ready for pod in self.agents)
            ),
            f"{nodes} nodes that are in a generation",
        )
        self.progress(1)

    def progress(self, steps: int) -> None:
        wanted = min(self.step() + steps, STEPS)
        self.cluster.until(lambda: self.step() >= wanted, f"step {wanted}")

    def finish(self) -> dict[str, Any]:
        """The summary, once it is written."""
        summary = self.run / "summary.json"

        def done() -> bool:
            return summary.exists() and json.loads(summary.read_text())["status"] == "completed"

        self.cluster.until(done, "the end of the job")
        found: dict[str, Any] = json.loads(summary.read_text())
        return found

    def ending(self, pod: Pod) -> tuple[int, str]:
        """How the pod ended and what its policy made of it, once it has."""
        self.cluster.until(
            lambda: any(one.pod == pod.name for one in self.cluster.endings), f"{pod.name} to end"
        )
        found = next(one for one in self.cluster.endings if one.pod == pod.name)
        return found.code, found.action


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with cluster(tmp_path) as made:
        yield Site(made, tmp_path)


@pytest.mark.timeout(1200)
def test_a_rendered_job_starts_and_completes(site, undisturbed):
    """Two pods of an Indexed Job, a rendezvous of two on three etcd: exit 0, and Complete."""
    site.submit("job", 2, pace=0.0)
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed
    job = site.cluster.controller("demo")
    site.cluster.until(lambda: job.state == "completed" and not job.pods, "a Job that is Complete")
    codes = [one.code for one in site.cluster.endings if one.pod.startswith("demo-")]
    assert 0 in codes
    assert set(codes) <= {0, 143, LEFT}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["job", "spot"])
def test_a_pod_is_evicted(site, undisturbed, target):
    """1. SIGTERM within the grace period. 2. It hands over and exits 75: not counted. 3. It is
    replaced, and the job goes on with as many nodes as before."""
    site.submit(target, 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.evict(victim)
    code, action = site.ending(victim)
    assert (code, action) == (LEFT, "Ignore" if target == "job" else "Replace")
    site.train_on(2)
    summary = site.finish()
    assert summary["weights_sha256"] == undisturbed
    assert summary["lost_steps"] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["job", "spot"])
def test_a_machine_is_deleted(site, undisturbed, target):
    """1. Everything of one pod is killed without a word. 2. Not counted: a disruption. 3. The
    others go on from what they hold; a replacement joins."""
    site.submit(target, 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.delete_machine(victim)
    code, action = site.ending(victim)
    assert (code, action) == (KILLED, "Ignore" if target == "job" else "Replace")
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("target", ["job", "spot"])
def test_a_job_is_scaled(site, undisturbed, target):
    """Two nodes, then four, then three; those that go hand over first."""
    site.submit(target, 2)
    site.train_on(2)
    for nodes in (4, 3):
        site.scale(nodes)
        site.train_on(nodes)
    summary = site.finish()
    assert summary["weights_sha256"] == undisturbed
    assert summary["lost_steps"] == 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_rendezvous_is_upgraded_pod_by_pod(site, undisturbed):
    """1. Each replica is replaced in turn. 2. No generation ends for it. 3. A change of membership
    works afterwards."""
    site.submit("job", 2)
    site.train_on(2)
    before = site.generations()[-1]["generation"]
    for old in site.cluster.of("remesh-rendezvous"):
        site.cluster.evict(old)
        assert site.ending(old)[0] == 0
        replicas = site.cluster.of("remesh-rendezvous")
        site.cluster.until(lambda now=replicas: all(pod.ready for pod in now), "two replicas")
        site.progress(3)
    assert site.generations()[-1]["generation"] == before
    site.scale(3)
    site.train_on(3)
    assert site.finish()["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_job_is_suspended_and_resumed_as_kueue_would(site, undisturbed):
    """1. The Job is suspended: every pod saves, exits 75, is not counted. 2. It stays so. 3. It is
    resumed with another number of nodes, and loses no step."""
    site.submit("job", 2)
    site.train_on(2)
    site.progress(5)
    pods = site.agents
    job = site.cluster.controller("demo").manifest
    job["spec"]["suspend"] = True
    assert [site.ending(pod) for pod in pods] == [(LEFT, "Ignore")] * 2
    assert site.agents == []
    before = site.step()
    job["spec"]["suspend"] = False
    site.scale(3)
    site.train_on(3)
    assert site.finish()["weights_sha256"] == undisturbed
    steps = [one["step"] for one in site.lines("metrics.jsonl")]
    assert before < STEPS
    assert sorted(set(steps)) == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_that_is_wrong_fails_at_once(site):
    """A file that no agent can run gives exit code 2, which the policy takes for the job's end."""
    site.submit("job", 2)
    site.cluster.until(lambda: len(site.agents) == 2, "two pods")
    for pod in site.agents:
        pod.kill()
    data = site.cluster.world.objects["ConfigMap", "demo-job"]["data"]
    data["job.yaml"] = data["job.yaml"].replace("tensor: 1", "tensor: 3")
    job = site.cluster.controller("demo")
    site.cluster.until(lambda: job.state == "failed", "a Job that has failed")
    assert any((one.code, one.action) == (2, "FailJob") for one in site.cluster.endings)
