"""What a job becomes on a cluster, before any manifest is made: numbers, and what stands against
it. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from trainer.deploy import names, quantity
from trainer.errors import JobError
from trainer.job import Job, dump

SPOT_GRACE = 25.0
SAVING_MARGIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One rendering: the job, and what the command line says beside it.

    `files` maps names to the text of files that travel with the job.
    """

    job: Job
    target: str | None = None
    namespace: str | None = None
    run_id: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every target renders. `job` is the job as the agents read it; times in seconds."""

    job: Job
    target: str
    namespace: str | None
    run_id: str
    grace: int
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def agents(self) -> str:
        """Name of the object that holds the agents."""
        return f"{self.name}-agents" if self.target == "spot" else self.name


def plan(request: Request) -> Plan:
    """Settle what the job leaves open for a cluster.

    Raises:
        JobError: the job can't run on a cluster as it is; one line a complaint.
    """
    job = request.job
    target = request.target or job.kubernetes.target
    found = [f"kubernetes: {text}" for text in _problems(job, target, request.files)]
    if found:
        raise JobError("\n".join(found))
    grace = grace_period(job, target)
    run_id = request.run_id or job.run.id or f"{job.name}-{fingerprint(job)}"
    section = job.kubernetes.model_copy(update={"target": target})
    update: dict[str, object] = {
        "run": job.run.model_copy(update={"id": run_id}),
        "elastic": job.elastic.model_copy(
            update={
                "nproc_per_node": ranks_per_node(job),
                "drain_grace": min(job.elastic.drain_grace, grace - SAVING_MARGIN),
            }
        ),
        "kubernetes": section,
    }
    entry = job.entrypoint
    if entry is not None and entry.script is not None and entry.script in request.files:
        inside = f"{names.JOB_DIRECTORY}/{PurePosixPath(entry.script).name}"
        update["entrypoint"] = entry.model_copy(update={"script": inside})
    return Plan(
        job=job.model_copy(update=update),
        target=target,
        # A RoleBinding must say whose account it means, so a spot job can't leave this open.
        namespace=request.namespace
        or job.kubernetes.namespace
        or ("default" if target == "spot" else None),
        run_id=run_id,
        grace=math.ceil(grace),
        files={PurePosixPath(name).name: text for name, text in request.files.items()},
    )


def fingerprint(job: Job) -> str:
    """Eight hexadecimal digits that change with anything in the job."""
    return hashlib.sha256(dump(job).encode()).hexdigest()[:8]


def ranks_per_node(job: Job) -> int:
    """`auto` on a cluster: the accelerators of a pod, or the whole cores it asks for, or one."""
    wanted, resources = job.elastic.nproc_per_node, job.kubernetes.resources
    if isinstance(wanted, int):
        return wanted
    cores = max(1, int(quantity.value(resources.cpu))) if resources.cpu is not None else 1
    if wanted == "cpu":
        return cores
    return resources.gpu or cores


def grace_period(job: Job, target: str) -> float:
    """Seconds from SIGTERM to SIGKILL."""
    if job.kubernetes.grace_period is not None:
        return job.kubernetes.grace_period
    wanted = job.elastic.drain_grace + SAVING_MARGIN
    return min(wanted, SPOT_GRACE) if target == "spot" else wanted


def keeps_files(job: Job, path: str) -> bool:
    """Whether `path` (as an agent sees it) lies on a volume that all pods share."""
    whole = PurePosixPath(job.kubernetes.work_directory, path)
    mounts = [volume for volume in job.kubernetes.volumes if whole.is_relative_to(volume.mount)]
    return bool(mounts) and max(mounts, key=lambda volume: len(volume.mount)).shared


def _problems(job: Job, target: str, files: Mapping[str, str]) -> Iterator[str]:
    section = job.kubernetes
    if target not in ("job", "spot", "jobset"):
        yield f"{target!r} is no target; use job, spot or jobset"
    yield from _storage(job)
    yield from _volumes(job)
    gpus, ranks = section.resources.gpu, job.elastic.nproc_per_node
    if isinstance(ranks, int) and gpus and ranks != gpus:
        yield (
            f"resources.gpu is {gpus} and elastic.nproc_per_node {ranks}; "
            "a rank has one accelerator, so make them equal"
        )
    if (ranks == "gpu" or job.run.device == "cuda") and not gpus:
        yield "the job computes on accelerators; set resources.gpu to how many a node has"
    if section.grace_period is not None and section.grace_period <= SAVING_MARGIN:
        yield f"a grace_period must be longer than {SAVING_MARGIN:g} s, or nothing can be saved"
    if section.roles and target != "jobset":
        yield f"roles need target jobset, not {target}"
    for name in sorted(section.env.keys() & section.secrets.keys()):
        yield f"{name} is in env and in secrets; remove one"
    if not section.rendezvous:
        yield "rendezvous names no endpoint; give host:port of the service"
    entry = job.entrypoint
    if entry is not None and entry.script is not None and entry.script not in files:
        path = PurePosixPath(entry.script)
        if not path.is_absolute() and not keeps_files(job, entry.script):
            yield (
                f"entrypoint.script {entry.script} was not found here and lies on no shared "
                "volume; give its absolute path in the image, or use entrypoint.module"
            )


def _storage(job: Job) -> Iterator[str]:
    checkpoint = job.checkpoint
    if not job.saves or (checkpoint.every == 0 and not checkpoint.at_end):
        return
    directory = checkpoint.directory or job.run.directory
    if "://" in directory and not directory.startswith("file://"):
        return
    if not keeps_files(job, directory.removeprefix("file://")):
        yield (
            f"checkpoints would go to {directory}, which ends with its pod; mount a claim at "
            f"{job.kubernetes.work_directory} (`volumes: [{{name: runs, mount: "
            f"{job.kubernetes.work_directory}, claim: NAME}}]`) or set checkpoint.directory to an "
            "object store such as s3://bucket/path"
        )


def _volumes(job: Job) -> Iterator[str]:
    names_seen: set[str] = set()
    mounts_seen = {names.JOB_DIRECTORY, names.TLS_DIRECTORY, names.TOKEN_DIRECTORY}
    mounts_seen |= {"/dev/shm", names.TEMPORARY}
    for index, volume in enumerate(job.kubernetes.volumes):
        if volume.name in names.RESERVED_VOLUMES:
            yield f"volumes.{index}: the name {volume.name} is taken; choose another"
        if volume.name in names_seen:
            yield f"volumes.{index}: the name {volume.name} is given twice"
        if volume.mount in mounts_seen:
            yield f"volumes.{index}: {volume.mount} is already mounted"
        names_seen.add(volume.name)
        mounts_seen.add(volume.mount)
