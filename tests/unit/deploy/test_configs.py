"""Every job that we ship, on every target: what a server would say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.deploy.jobs import handle, pod_of
from trainer.deploy import Request, render, rules, schema
from trainer.deploy.rules.pods import restricted
from trainer.job import load

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def request_of(path: Path, target: str | None = None) -> Request:
    job = load(path)
    script = job.entrypoint.script if job.entrypoint is not None else None
    files = {script: (ROOT / script).read_text(encoding="utf-8")} if script else {}
    return Request(job=job, target=target, files=files)


def test_there_are_jobs_to_look_at():
    assert {"quickstart", "llama3-8b", "llama3-405b", "spot", "script", "cluster"} <= {
        path.stem for path in CONFIGS
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("target", ["job", "spot", "jobset"])
def test_it_renders_what_a_server_would_take(path, target):
    manifests = render(request_of(path, target))
    assert rules.problems(manifests) == []
    assert schema.problems(manifests, schema.newest_versions()) == []
    assert list(restricted(pod_of(handle(manifests)))) == []


@pytest.mark.parametrize(
    ("name", "kind", "nodes", "gpus"),
    [
        ("quickstart", "Job", 1, None),
        ("llama3-8b", "Job", 8, "8"),
        ("llama3-405b", "Job", 64, "8"),
        ("spot", "Deployment", 16, "8"),
        ("script", "Job", 1, None),
        ("cluster", "Deployment", 3, None),
    ],
)
def test_its_own_target_and_size(name, kind, nodes, gpus):
    holder = handle(render(request_of(ROOT / "configs" / f"{name}.yaml")))
    assert holder["kind"] == kind
    assert holder["spec"].get("replicas", holder["spec"].get("parallelism")) == nodes
    limits = pod_of(holder)["containers"][0]["resources"].get("limits", {})
    assert limits.get("nvidia.com/gpu") == gpus
