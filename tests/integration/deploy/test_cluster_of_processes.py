"""Rendered manifests, run: etcd, rendezvous, agents and coordinators as a cluster would start them,
and what befalls them there. Each job ends with the undisturbed run's weights, to the bit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.deploy.api_server import TOKEN, api_server
from tests.integration.deploy.cluster import Cluster, cluster
from tests.integration.deploy.kubelet import variables
from tests.integration.deploy.site import STEPS, Site, description
from tests.unit.deploy import kustomize

pytest.importorskip("kubernetes")

CONTROL_PLANE = Path(__file__).parents[3] / "deploy" / "control-plane" / "base"
LEFT, KILLED, TERMINATED = 75, 137, 143
TARGETS = pytest.mark.parametrize("target", ["job", "spot"])
NOT_COUNTED = {"job": "Ignore", "spot": "Replace"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the same job on one node that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = description("alone", folder / "hold")
    job["elastic"]["nodes"] = "1"
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    subprocess.run(
        [sys.executable, "-m", "trainer.command", "run", "job.yaml", "--set", "run.id=alone"],
        cwd=folder, env=variables(), timeout=600, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return str(
        json.loads((folder / "runs" / "alone" / "summary.json").read_text())["weights_sha256"]
    )


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with its control plane: three etcd, two rendezvous."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = pytest.MonkeyPatch()
    with api_server() as api, cluster(folder, api) as made, environment.context() as patched:
        patched.setenv("KUBECONFIG", str(api.kubeconfig(folder / "kubeconfig")))
        secret = {"kind": "Secret", "metadata": {"name": "remesh-token"}, "data": {"token": TOKEN}}
        made.add([secret, *kustomize.build(CONTROL_PLANE)])
        made.until(lambda: serves(made), "a rendezvous that serves")
        yield made


def serves(made: Cluster) -> bool:
    replicas = made.of("Deployment", "remesh-rendezvous")
    return len(replicas) == 2 and all(pod.ready for pod in replicas)


NUMBERS = itertools.count(1)


@pytest.fixture
def site(plane: Cluster, tmp_path: Path) -> Iterator[Site]:
    made = Site(plane, tmp_path, f"demo{next(NUMBERS)}")
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.timeout(400)
def test_a_rendered_job_starts_and_completes(site, undisturbed, capsys):
    """1. Two pods of an Indexed Job are in a generation, and only then ready. 2. The first exit
    code 0 completes the Job; the rest is told to go."""
    site.submit("job", 2)
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed
    assert f"{site.name}  completed" in capsys.readouterr().out
    codes = [one.code for one in site.cluster.endings if one.pod.startswith(f"{site.name}-")]
    assert 0 in codes
    assert set(codes) <= {0, LEFT, TERMINATED}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_spot_job_ends_with_its_coordinator(site, undisturbed):
    """1. A pod is evicted by `remesh drain`: it hands over, exits 75, and is replaced. 2. The
    coordinator, evicted as well, is replaced too. 3. The job completes: the coordinator scales
    the agents to nothing and its Job, the handle to wait for, is complete."""
    site.submit("spot", 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.until(lambda: ("Pod", victim.name) in site.cluster.world.objects, "a pod to drain")
    site.remesh("drain", site.name, "--node", victim.name)
    assert site.ending(victim) == (LEFT, "Replace")
    (coordinator,) = site.cluster.of("Job", site.name)
    site.cluster.evict(coordinator)
    assert site.ending(coordinator) == (TERMINATED, "Ignore")
    site.train_on(2)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)
    agents = site.cluster.world.objects["Deployment", f"{site.name}-agents"]
    assert agents["spec"]["replicas"] == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_pod_is_evicted(site, undisturbed):
    """1. SIGTERM within the grace period. 2. It hands over and exits 75: not counted. 3. It is
    replaced, and the job goes on with as many nodes as before."""
    site.submit("job", 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.evict(victim)
    assert site.ending(victim) == (LEFT, "Ignore")
    site.train_on(2)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
@TARGETS
def test_an_evicted_pod_that_does_not_go_is_killed(site, undisturbed, target):
    """1. The agent hears nothing of its SIGTERM. 2. The grace period ends: SIGKILL. 3. Not counted,
    and the others go on."""
    site.submit(target, 2, grace_period=6)
    site.train_on(2)
    victim = site.agents[0]
    assert victim.process is not None
    victim.process.suspend()
    site.cluster.evict(victim)
    assert site.ending(victim) == (KILLED, NOT_COUNTED[target])
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(400)
@TARGETS
def test_a_machine_is_deleted(site, undisturbed, target):
    """1. Everything of one pod is killed without a word. 2. Not counted: a disruption. 3. The
    others go on from what they hold; a replacement joins."""
    site.submit(target, 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.delete_machine(victim)
    assert site.ending(victim) == (KILLED, NOT_COUNTED[target])
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(400)
@TARGETS
def test_an_agent_is_killed_in_its_pod(site, undisturbed, target):
    """1. The kernel ends the container, as when it is out of memory. 2. A Job counts it and
    replaces the pod; a Deployment's pod starts it again by the same name. 3. The job goes on."""
    site.submit(target, 2)
    site.train_on(2)
    victim = site.agents[0]
    victim.kill()
    assert site.ending(victim) == (KILLED, {"job": "Count", "spot": "Restart"}[target])
    site.train_on(2)
    assert site.finish()["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(400)
@TARGETS
def test_a_job_is_scaled(site, undisturbed, target):
    """Two nodes, then four, then three; those that go hand over first."""
    site.submit(target, 2)
    site.train_on(2)
    for nodes in (4, 3):
        site.scale(nodes)
        site.train_on(nodes)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_rendezvous_is_upgraded_pod_by_pod(site, undisturbed):
    """1. Each replica is replaced in turn. 2. No generation ends for it. 3. A change of membership
    works afterwards."""
    site.submit("job", 2)
    site.train_on(2)
    before = site.generations()[-1]["generation"]
    for old in site.cluster.of("Deployment", "remesh-rendezvous"):
        site.cluster.evict(old)
        assert site.ending(old)[0] == 0
        site.cluster.until(lambda: serves(site.cluster), "two replicas")
        site.progress(3)
    assert site.generations()[-1]["generation"] == before
    site.scale(3)
    site.train_on(3)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
@TARGETS
def test_a_job_is_suspended_and_resumed(site, undisturbed, target):
    """1. Every pod gets SIGTERM, as when Kueue suspends the Job: each saves and exits 75, which is
    not counted. 2. It stays so. 3. It comes back on another number of nodes, and loses no step."""
    site.submit(target, 2)
    site.train_on(2)
    site.progress(5)
    pods = site.agents
    site.remesh("drain", site.name)
    assert [site.ending(pod) for pod in pods] == [(LEFT, NOT_COUNTED[target])] * 2
    assert site.agents == []
    left = site.step()
    site.scale(3)
    site.train_on(3)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)
    first = next(one for one in site.lines("events.jsonl") if is_resumption(one, pods))
    assert (first["source"], first["version"]) == ("storage", left)
    steps = [one["step"] for one in site.lines("metrics.jsonl")]
    assert steps == list(range(1, STEPS + 1))


def is_resumption(event: dict, before: list) -> bool:
    return event["event"] == "state.restored" and event["node"] not in {pod.name for pod in before}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_set_outlives_an_eviction_and_a_suspension(site, undisturbed):
    """1. The agents are the one Job of a JobSet. 2. One is evicted, hands over, and is replaced.
    3. The set is suspended and resumed, with as many nodes. 4. It completes with its Job."""
    site.submit("jobset", 2)
    site.train_on(2)
    victim = site.agents[0]
    site.cluster.evict(victim)
    assert site.ending(victim) == (LEFT, "Ignore")
    site.train_on(2)
    pods = site.agents
    site.remesh("drain", site.name)
    assert [site.ending(pod) for pod in pods] == [(LEFT, "Ignore")] * 2
    site.scale(2)
    site.train_on(2)
    summary = site.finish()
    assert (summary["weights_sha256"], summary["lost_steps"]) == (undisturbed, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_that_is_wrong_fails_at_once(site):
    """A file that no agent can run gives exit code 2, which the policy takes for the job's end."""
    site.submit("job", 2)
    site.cluster.until(lambda: len(site.agents) == 2, "two pods")
    for pod in site.agents:
        pod.kill()
    data = site.cluster.world.objects["ConfigMap", f"{site.name}-job"]["data"]
    data["job.yaml"] = data["job.yaml"].replace("tensor: 1", "tensor: 3")
    site.cluster.until(
        lambda: site.cluster.state("Job", site.name) == "failed", "a Job that has failed"
    )
    assert any((one.code, one.action) == (2, "FailJob") for one in site.cluster.endings)
