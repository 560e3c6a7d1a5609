"""`remesh render | validate | submit | status | logs | scale | drain | delete` on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trainer.deploy import actions, schema
from trainer.deploy.api import Cluster
from trainer.deploy.plan import Request, plan
from trainer.deploy.render import render, to_yaml
from trainer.errors import ClusterError, JobError
from trainer.job import Job, load
from trainer.names import RUN_ID, named
from trainer.outside.numbers import BriefParser, seconds_flag, whole_flag

EXIT_FAILED = 1
FOLLOW_SECONDS = 600.0
JOB_SUFFIXES = (".yaml", ".yml")
LARGEST_SCRIPT = 512 << 10


class Subcommand(NamedTuple):
    """One subcommand: a line of help, its arguments, what carries it out, and an example."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    example: str


def main(argv: Sequence[str]) -> int:
    """`argv` begins with the subcommand's name. Raises JobError for what the user has to mend."""
    name, *rest = argv
    try:
        return SUBCOMMANDS[name].run(parser(name).parse_args(rest))
    except ClusterError as error:
        sys.stderr.write(f"remesh: {error}\n")
        return EXIT_FAILED


def parser(name: str) -> argparse.ArgumentParser:
    """Of one subcommand."""
    subcommand = SUBCOMMANDS[name]
    made = BriefParser(
        prog=f"remesh {name}",
        description=subcommand.help[0].upper() + subcommand.help[1:] + ".",
        epilog=f"example: remesh {name} {subcommand.example}",
    )
    subcommand.add_arguments(made)
    return made


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)


def _render(args: argparse.Namespace) -> int:
    sys.stdout.write(to_yaml(render(_request(args))))
    return 0


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)
    parser.add_argument(
        "--kubernetes-version",
        action="append",
        metavar="1.N",
        help="a version whose schema is asked (default: the three newest that are known)",
    )


def _validate(args: argparse.Namespace) -> int:
    request = _request(args)
    versions = args.kubernetes_version or schema.newest_versions()
    settled = plan(request)
    manifests = render(request)
    found = actions.check(manifests, versions)
    if found:
        raise JobError("\n".join(found))
    if settled.job.trains:
        _check_mesh(settled.job)
    _say(
        f"{args.job}: {len(manifests)} objects for target {settled.target}, "
        f"good for Kubernetes {', '.join(versions)}"
    )
    return 0


def _check_mesh(job: Job) -> None:
    """Raises JobError when the job's ranks fit no mesh, with the fewest nodes or with the most."""
    from trainer.mesh import NodeSlots, plan_job

    slots = job.elastic.nproc_per_node
    assert isinstance(slots, int)
    for count in {job.elastic.min_nodes, job.elastic.max_nodes}:
        plan_job(job, [NodeSlots(node=str(index), slots=slots) for index in range(count)])


def _submit_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)
    _cluster_arguments(parser)
    parser.add_argument("--replace", action="store_true", help="delete a job of that name first")
    parser.add_argument(
        "--force-conflicts",
        action="store_true",
        help="take over fields that others manage, such as an autoscaler's number of nodes",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="have the server check everything, change nothing"
    )
    parser.add_argument("--no-follow", action="store_true", help="don't wait for the start")
    parser.add_argument(
        "--wait",
        type=seconds_flag(),
        default=FOLLOW_SECONDS,
        metavar="SECONDS",
        help="how long the start is watched (default: %(default)g)",
    )


def _submit(args: argparse.Namespace) -> int:
    request = _request(args)
    plan(request)
    cluster = _connect(args, request.namespace or request.job.kubernetes.namespace)
    name = request.job.name
    fresh = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    actions.submit(
        cluster,
        request,
        fresh=fresh,
        replace=args.replace,
        force=args.force_conflicts,
        dry_run=args.dry_run,
        say=_say,
    )
    if args.dry_run or args.no_follow:
        return 0
    view = actions.follow(cluster, name, patience=args.wait, say=_say)
    if view.state in ("starting", "suspended"):
        _say(f"{name} has not begun yet; `remesh status {name} --cluster` shows how it goes on")
    elif view.state == "running":
        _say(f"`remesh logs {name} --follow` shows what it does")
    return EXIT_FAILED if view.state in ("failed", "missing") else 0


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _named_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def _status(args: argparse.Namespace) -> int:
    name, namespace = _named(args)
    cluster = _connect(args, namespace)
    if args.json:
        view = actions.see(cluster, name)
        _say(json.dumps({**asdict(view), "ready": view.ready}, indent=1))
    else:
        view = actions.status(cluster, name, say=_say)
    return EXIT_FAILED if view.state in ("failed", "missing") else 0


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    _named_arguments(parser)
    parser.add_argument("--node", metavar="POD", help="one node alone")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more comes")
    parser.add_argument(
        "--tail", type=whole_flag(0), metavar="N", help="begin with the last N lines"
    )


def _logs(args: argparse.Namespace) -> int:
    name, namespace = _named(args)
    cluster = _connect(args, namespace)
    actions.logs(cluster, name, node=args.node, follow=args.follow, tail=args.tail, say=_say)
    return 0


def _scale_arguments(parser: argparse.ArgumentParser) -> None:
    _named_arguments(parser)
    parser.add_argument(
        "--nodes", type=whole_flag(1, 65_536), required=True, help="within the job's bounds"
    )


def _scale(args: argparse.Namespace) -> int:
    name, namespace = _named(args)
    actions.scale(_connect(args, namespace), name, args.nodes, say=_say)
    return 0


def _drain_arguments(parser: argparse.ArgumentParser) -> None:
    _named_arguments(parser)
    parser.add_argument("--node", metavar="POD", help="one node; without it, the whole job")


def _drain(args: argparse.Namespace) -> int:
    name, namespace = _named(args)
    actions.drain(_connect(args, namespace), name, args.node, say=_say)
    return 0


def _delete_arguments(parser: argparse.ArgumentParser) -> None:
    _named_arguments(parser)


def _delete(args: argparse.Namespace) -> int:
    name, namespace = _named(args)
    if actions.delete(_connect(args, namespace), name, say=_say) == 0:
        raise JobError(f"there is no job {name} in this namespace")
    return 0


SUBCOMMANDS = {
    "render": Subcommand(
        "print a job's Kubernetes manifests",
        _render_arguments,
        _render,
        "job.yaml -n team | kubectl apply -f -",
    ),
    "validate": Subcommand(
        "check a job and its manifests without a cluster",
        _validate_arguments,
        _validate,
        "job.yaml --target spot",
    ),
    "submit": Subcommand(
        "start a job on a cluster",
        _submit_arguments,
        _submit,
        "job.yaml -n team --set kubernetes.image=registry.example/remesh:0.1.0",
    ),
    "status": Subcommand(
        "show a job on a cluster", _status_arguments, _status, "job --cluster -n team"
    ),
    "logs": Subcommand(
        "show what a job's nodes print", _logs_arguments, _logs, "job -n team --follow"
    ),
    "scale": Subcommand(
        "change a job's number of nodes", _scale_arguments, _scale, "job -n team --nodes 3"
    ),
    "drain": Subcommand(
        "have a node, or all of a job, save and leave",
        _drain_arguments,
        _drain,
        "job -n team --node job-0-x7k2p",
    ),
    "delete": Subcommand(
        "remove a job from a cluster; claims and checkpoints stay",
        _delete_arguments,
        _delete,
        "job -n team",
    ),
}


def _job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.yaml", help="the job file")
    parser.add_argument(
        "--target",
        choices=("job", "spot", "jobset"),
        help="what holds the agents, in place of kubernetes.target: an Indexed Job; a Deployment, "
        "for nodes that come and go; or a JobSet",
    )
    parser.add_argument("-n", "--namespace", help="in place of kubernetes.namespace")
    parser.add_argument("--run-id", metavar="NAME", help="in place of run.id")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the job, such as elastic.nodes=2:8; may be repeated",
    )


def _named_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job's name, or its file")
    parser.add_argument("-n", "--namespace", help="where it is")
    _cluster_arguments(parser)


def _cluster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument(
        "--timeout",
        type=seconds_flag(),
        default=10.0,
        metavar="SECONDS",
        help="for one answer of the API server (default: %(default)g)",
    )


def _request(args: argparse.Namespace) -> Request:
    job = load(args.job, args.set)
    if args.run_id is not None:
        try:
            named(RUN_ID, args.run_id, given="--run-id")
        except ValueError as error:
            raise JobError(str(error)) from None
    return Request(
        job=job,
        target=args.target,
        namespace=args.namespace,
        run_id=args.run_id,
        files=_files(job, Path(args.job).parent),
    )


def _files(job: Job, beside: Path) -> dict[str, str]:
    """The script, where it is a small file here: found from where we are, or from the job file."""
    script = job.entrypoint.script if job.entrypoint is not None else None
    if script is None or PurePosixPath(script).is_absolute():
        return {}
    for path in (Path(script), beside / script):
        if path.is_file() and path.stat().st_size <= LARGEST_SCRIPT:
            return {script: path.read_text(encoding="utf-8")}
    return {}


def _named(args: argparse.Namespace) -> tuple[str, str | None]:
    """The job's name, and the namespace that its file or the command line gives."""
    if not args.job.endswith(JOB_SUFFIXES):
        return args.job, args.namespace
    job = load(args.job)
    return job.name, args.namespace or job.kubernetes.namespace


def _connect(args: argparse.Namespace, namespace: str | None) -> Cluster:
    return Cluster.connect(context=args.context, namespace=namespace, timeout=args.timeout)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
