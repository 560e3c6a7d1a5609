"""From a job file to a launch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rendezvous.generation import Generation
from rendezvous.timeouts import Timeouts
from trainer.agent import Launch, Loop, Probe, Script
from trainer.channel import REHEARSAL_VARIABLE
from trainer.command import options
from trainer.command.earlier_run import earlier_run, new_run_id
from trainer.command.script_launch import (
    check_program,
    console,
    labels,
    membership,
    script_entry,
    script_name,
)
from trainer.command.slots import worker_count
from trainer.errors import JobError
from trainer.job import EntrypointSection, Job, dump, from_mapping, load
from trainer.namesake import NAME, namesake, script_path
from trainer.telemetry import RunDirectory

if TYPE_CHECKING:
    from trainer.mesh import NodeSlots

LEADER_GRACE_SECONDS = 5.0
START = Path(__file__).resolve().parents[2] / "remesh" / "start.py"
"""Begins a worker of ours, whatever the user's own files are called."""
OVERRIDING_FLAGS = {
    "nnodes": "elastic.nodes",
    "nproc_per_node": "elastic.nproc_per_node",
    "max_restarts": "elastic.max_restarts",
    "rdzv_id": "run.id",
    "run_directory": "run.directory",
    "shutdown_timeout": "elastic.drain_grace",
}
TEXTS = ("run.id", "run.directory")


def job_launch(parsed: argparse.Namespace) -> Launch:
    """Read and check the job, and that a mesh fits where that is known. Raises JobError."""
    overrides = [*_overrides(parsed), *parsed.set]
    return launch_of(load(parsed.target, overrides, faults=parsed.fault), parsed)


def loop_launch(parsed: argparse.Namespace) -> Launch:
    """A script that calls `trainer.elastic` is a job whose sections are flags. Raises JobError."""
    described = {
        "name": script_name(parsed),
        "entrypoint": script_entry(parsed) | {"elastic": True},
        "elastic": {"nproc_per_node": 1},
    }
    overrides = [*_overrides(parsed), *parsed.set]
    job = from_mapping(described, overrides, faults=parsed.fault, source=parsed.target)
    return launch_of(job, parsed)


def launch_of(job: Job, parsed: argparse.Namespace) -> Launch:
    """The job, and what the flags say of this node. Raises JobError."""
    slots = worker_count(str(job.elastic.nproc_per_node), flag="elastic.nproc_per_node")
    if job.run.id is None and parsed.rdzv_endpoint and not parsed.standalone:
        raise JobError(
            "several agents need one name for the run; give --rdzv-id NAME (the same on every "
            "node), or run.id in the job file"
        )
    run_id = job.run.id or _unnamed(job, fresh=parsed.fresh)
    if parsed.fresh and job.run.id:
        raise JobError(f"--fresh starts a run of a new name, and run.id names one: {job.run.id}")
    job = job.model_copy(update={"run": job.run.model_copy(update={"id": run_id})})
    root = Path(job.run.directory).expanduser().absolute() / run_id
    elastic = job.elastic
    return Launch(
        run_id=run_id,
        directory=root,
        job_text=dump(job),
        private=job.private,
        slots=slots,
        workers=_workers(job, slots, root),
        membership=membership(
            parsed,
            max_restarts=elastic.max_restarts,
            nodes=(_least_nodes(job, slots), elastic.max_nodes),
            times={
                "join_timeout": elastic.join_timeout,
                "last_call": elastic.last_call,
                "beat_timeout": elastic.beat_timeout,
                "leader_grace": max(
                    LEADER_GRACE_SECONDS,
                    2 * elastic.beat_timeout,
                    Timeouts().least_leader_grace(elastic.max_nodes),
                ),
                "reconnect_grace": elastic.reconnect_grace,
                "grow_interval": elastic.grow_interval,
                "wait": elastic.wait,
                "node_failures": elastic.node_failures,
            },
        ),
        logs=Path(parsed.log_dir).expanduser().absolute() / run_id if parsed.log_dir else None,
        console=console(parsed, slots),
        node=options.node(parsed.node),
        local_address=parsed.local_addr,
        labels=labels(parsed),
        signals=options.signals(parsed.signals_to_handle),
        drain_seconds=elastic.drain_grace,
        probe=_probe(job),
        mesh=_mesh_namer(job) if job.trains else None,
        plan=_planner(job) if job.trains else None,
        kept=_kept(job) if job.trains else lambda generation: None,
    )


def _unnamed(job: Job, *, fresh: bool) -> str:
    """The id of the run that this start is: of an earlier one that goes on, or a new one."""
    earlier = None if fresh else earlier_run(job)
    if earlier is None:
        return new_run_id(job)
    print(f"remesh: {earlier.line(fresh=True)}", file=sys.stderr)
    return earlier.run.run_id


def _overrides(parsed: argparse.Namespace) -> list[str]:
    options.run_id(parsed.rdzv_id or None)
    given = ((key, getattr(parsed, flag)) for flag, key in OVERRIDING_FLAGS.items())
    return [
        # A run may be called 007: quoted, no YAML makes a number of it.
        f"{key}={json.dumps(value) if key in TEXTS else value}"
        for key, value in given
        if value is not None and value != ""
    ]


def _workers(job: Job, slots: int, root: Path) -> Script | Loop:
    entry = job.entrypoint
    if entry is None:
        argv: tuple[str, ...] = (sys.executable, "-u", "-P", str(START), "trainer.worker")
        return _loop(job, slots, argv, _rehearsal(slots, root))
    if entry.script is not None:
        if not Path(entry.script).exists():
            raise JobError(f"entrypoint.script: {entry.script}: no such file")
        argv = (sys.executable, "-u", entry.script)
    elif entry.module is not None:
        argv = (sys.executable, "-u", "-m", entry.module)
    else:
        assert entry.command is not None
        check_program(entry.command, {**os.environ, **entry.env}.get("PATH"))
        argv = (entry.command,)
    argv = (*argv, *entry.args)
    if entry.elastic:
        _check_names(entry)
        if entry.script is not None and not _names_elastic(Path(entry.script)):
            print(
                f"remesh: {entry.script} does not name `elastic`: if nothing that it imports calls "
                "trainer.elastic, no worker will ever be ready; run it without --elastic then",
                file=sys.stderr,
            )
        return _loop(job, slots, argv, entry.env)
    return Script(argv=argv, env=entry.env)


def _names_elastic(script: Path) -> bool:
    """Whether the text has the word; what can't be read is somebody else's to say."""
    try:
        return b"elastic" in script.read_bytes()
    except OSError:
        return True


def _check_names(entry: EntrypointSection) -> None:
    """Raises JobError where the elastic program would get a file of the user's for our package."""
    if entry.script is not None:
        folder = Path(entry.script).resolve().parent
    elif entry.module is not None:
        folder = Path.cwd()
    else:
        return
    found = namesake(script_path(folder, os.environ | entry.env, sys.path))
    if found is not None:
        raise JobError(
            f"{found} has the name of Remesh's own package: {entry.script or entry.module} would "
            f"get it from `import {NAME}`, and could not call {NAME}.elastic; rename it"
        )


def _loop(job: Job, slots: int, argv: tuple[str, ...], env: Mapping[str, str]) -> Loop:
    elastic = job.elastic
    wanted = elastic.standby_per_node
    return Loop(
        argv=argv,
        env=env,
        standby=int(slots >= 2) if wanted == "auto" else wanted,
        interrupt_seconds=elastic.interrupt_timeout,
        hang_seconds=None if elastic.hang_timeout == "auto" else elastic.hang_timeout,
        total_steps=job.train.stop_at or job.train.steps if job.trains else None,
        topology=elastic.topology,
        own=not job.trains,
        mirrors=elastic.mirror_every > 0,
        storage_options=job.checkpoint.storage_options,
    )


def _rehearsal(slots: int, root: Path) -> dict[str, str]:
    """Blocks are built, and compiled, before a worker says that it is ready."""
    return {REHEARSAL_VARIABLE: f"{slots}:{RunDirectory(root).job}"}


def _probe(job: Job) -> Probe | None:
    asked = job.elastic.probe
    if asked.command is None and asked.file is None:
        return None
    return Probe(
        command=asked.command or (),
        file=Path(asked.file).expanduser() if asked.file is not None else None,
        every=asked.every,
    )


def _least_nodes(job: Job, slots: int) -> int:
    """Below so many nodes the job waits. Raises JobError when it fits nowhere."""
    from trainer.mesh import NodeSlots, least_nodes, plan_job

    if not job.trains:
        return job.elastic.min_nodes
    plan_job(job, [NodeSlots(node=str(i), slots=slots) for i in range(job.elastic.max_nodes)])
    least = least_nodes(job, slots)
    if least > job.elastic.min_nodes:
        print(
            f"remesh: below {least} nodes no mesh fits, so that the job waits there "
            f"(elastic.nodes allows {job.elastic.min_nodes})",
            file=sys.stderr,
        )
    return least


def _slots_of(generation: Generation) -> list[NodeSlots]:
    from trainer.mesh import NodeSlots

    return [NodeSlots(node=m.node, slots=m.slots) for m in generation.members]


def _planner(job: Job) -> Callable[[Generation, str], dict[str, Any]]:
    """What would follow from the loss of a generation's node."""
    from trainer.mesh import foresee

    return lambda generation, lost: foresee(job, _slots_of(generation), lost).to_dict()


def _kept(job: Job) -> Callable[[Generation], int | None]:
    """How many bytes of state a rank of a generation copies to shared memory."""
    from trainer.mesh import kept_bytes_of_rank, plan_job, widest

    def kept(generation: Generation) -> int | None:
        if not (job.checkpoint.every or job.checkpoint.at_end or job.elastic.mirror_every):
            return None
        nodes = _slots_of(generation)
        pieces = job.pieces(widest(nodes))
        try:
            mesh = plan_job(job, nodes, replan=job.elastic.replan, pieces=pieces)
        except JobError:
            return None
        return kept_bytes_of_rank(job, mesh, pieces)

    return kept


def _mesh_namer(job: Job) -> Callable[[Generation], str]:
    """What a generation's mesh is called."""
    from trainer.mesh import plan_job

    def name(generation: Generation) -> str:
        nodes = _slots_of(generation)
        replan = "none" if generation.number == 1 else job.elastic.replan
        try:
            return plan_job(job, nodes, replan=replan).describe()
        except JobError as error:
            return f"no mesh: {error}"

    return name
