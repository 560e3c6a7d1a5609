"""From torchrun's flags and a script to a launch."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from trainer.agent import Console, Launch, Membership, Script
from trainer.command import options
from trainer.command.slots import worker_count
from trainer.errors import JobError
from trainer.outside.echo import shown
from trainer.outside.numbers import whole

DEFAULT_RUN_ID = "none"
DEFAULT_DIRECTORY = "runs"
DEFAULT_SHUTDOWN_SECONDS = 30.0


def script_launch(parsed: argparse.Namespace) -> Launch:
    """Check everything that can be checked before a process starts. Raises JobError."""
    if parsed.set or parsed.fault or parsed.fresh:
        given = "--set" if parsed.set else "--fault" if parsed.fault else "--fresh"
        raise JobError(
            f"{given} belongs to a job file, and {parsed.target} is taken for a script; "
            "job files end in .yaml or .yml"
        )
    slots = worker_count("1" if parsed.nproc_per_node is None else parsed.nproc_per_node)
    entry = script_entry(parsed)
    run_id = _run_id(parsed)
    root = Path(parsed.run_directory or DEFAULT_DIRECTORY).expanduser().absolute()
    described = {
        "name": script_name(parsed),
        "entrypoint": entry,
        "elastic": {
            "nodes": parsed.nnodes or "1",
            "nproc_per_node": slots,
            "max_restarts": parsed.max_restarts or 0,
        },
        "run": {"directory": str(root), "id": run_id},
    }
    script = Script(
        argv=_argv(parsed),
        env={"TORCHELASTIC_SIGNALS_TO_HANDLE": parsed.signals_to_handle or options.DEFAULT_SIGNALS},
        role="default" if parsed.role is None else parsed.role,
        virtual_local_rank=parsed.virtual_local_rank,
        master=_master(parsed),
    )
    return Launch(
        run_id=run_id,
        directory=root / run_id,
        job_text=yaml.safe_dump(described, sort_keys=False),
        slots=slots,
        workers=script,
        membership=membership(parsed, max_restarts=parsed.max_restarts or 0),
        logs=_log_directory(parsed, run_id),
        console=console(parsed, slots),
        node=options.node(parsed.node),
        local_address=parsed.local_addr,
        labels=labels(parsed),
        signals=options.signals(parsed.signals_to_handle),
        shutdown_seconds=shutdown_seconds(parsed),
        drain_seconds=shutdown_seconds(parsed) + 5.0,
    )


def membership(
    parsed: argparse.Namespace,
    *,
    max_restarts: int,
    nodes: tuple[int, int] | None = None,
    times: Mapping[str, float] | None = None,
) -> Membership:
    """What the rendezvous is told. Raises JobError for nodes without a place to meet."""
    low, high = nodes or options.node_range("1" if parsed.nnodes is None else parsed.nnodes)
    endpoints = () if parsed.standalone else options.endpoints(parsed.rdzv_endpoint)
    if low > 1 and not endpoints:
        raise JobError(
            f"{low} nodes need a place to meet: start `remesh rendezvous serve` and give its "
            "address with --rdzv-endpoint HOST:PORT on every node"
        )
    if max_restarts < 0:
        raise JobError(f"--max-restarts is {max_restarts}; it can't be negative")
    conf = options.rendezvous_conf(parsed.rdzv_conf)
    for key in conf.unknown:
        print(f"remesh: --rdzv-conf {key} has no effect here", file=sys.stderr)
    return Membership(
        endpoints=endpoints,
        min_nodes=low,
        max_nodes=high,
        max_restarts=max_restarts,
        options={**(times or {}), **conf.times},
        files={key: str(path.absolute()) for key, path in conf.files.items()},
    )


def console(parsed: argparse.Namespace, slots: int) -> Console:
    """What of the workers' output is shown."""
    return Console(
        redirects=options.streams(parsed.redirects, slots, "--redirects"),
        tee=options.streams(parsed.tee, slots, "--tee"),
        ranks=options.ranks(parsed.local_ranks_filter),
        prefix=os.environ.get("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"),
    )


def labels(parsed: argparse.Namespace) -> dict[str, str]:
    """`K=V` each. Raises JobError."""
    found = {}
    for text in parsed.label:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise JobError(f"--label: {shown(text)} is not KEY=VALUE")
        found[key] = value
    return found


def shutdown_seconds(parsed: argparse.Namespace) -> float:
    """torchrun's order: the flag, its environment variable, 30 s."""
    if parsed.shutdown_timeout is not None:
        return float(parsed.shutdown_timeout)
    text = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    try:
        return float(whole(text))
    except ValueError:
        return DEFAULT_SHUTDOWN_SECONDS


def script_entry(parsed: argparse.Namespace) -> dict[str, object]:
    """The `entrypoint` section that the flags describe. Raises JobError."""
    target, args = parsed.target, list(parsed.arguments)
    if parsed.no_python and parsed.module:
        raise JobError("--no-python and --module exclude each other; give one of them")
    if parsed.module:
        return {"module": target, "args": args}
    if parsed.no_python:
        check_program(target, os.environ.get("PATH"))
        return {"command": target, "args": args}
    path = Path(target)
    if not path.exists():
        raise JobError(f"{target}: no such file; give a script, or a job file that ends in .yaml")
    if path.is_dir() and not (path / "__main__.py").is_file():
        run = (path / "job.yaml").is_file()
        then = f"`remesh resume {target}` goes on with that run" if run else "give a file"
        raise JobError(f"{target} is a directory; {then}")
    if parsed.run_path and not path.is_absolute():
        raise JobError(f"--run-path needs an absolute path, {target} is relative")
    return {"script": str(path.absolute()), "args": args}


def check_program(command: str, path: str | None) -> None:
    """Raises JobError where there is nothing of that name to be run; `path` is its PATH."""
    if shutil.which(command, path=path) is not None:
        return
    if Path(command).is_file() and os.sep in command:
        raise JobError(f"{command} is not executable; chmod +x {command}")
    raise JobError(f"{command}: no such program; give its path or a name that is in PATH")


def _argv(parsed: argparse.Namespace) -> tuple[str, ...]:
    command = [parsed.target, *parsed.arguments]
    if parsed.no_python and not parsed.run_path:
        return tuple(command)
    python = os.environ.get("PYTHON_EXEC", sys.executable)
    return (python, "-u", *(["-m"] if parsed.module else []), *command)


def script_name(parsed: argparse.Namespace) -> str:
    """The script's name as a job's."""
    name = parsed.target.rpartition(".")[2] if parsed.module else Path(parsed.target).stem
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return words.strip("-")[:53].strip("-") or "script"


def _run_id(parsed: argparse.Namespace) -> str:
    wanted = None if parsed.standalone else options.run_id(parsed.rdzv_id or None)
    if wanted is not None:
        return wanted
    if parsed.rdzv_endpoint and not parsed.standalone:
        return DEFAULT_RUN_ID
    return f"{script_name(parsed)}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _master(parsed: argparse.Namespace) -> tuple[str | None, int | None]:
    if parsed.master_addr is None and parsed.master_port is None:
        return None, None
    if parsed.rdzv_endpoint or parsed.standalone or options.node_range(parsed.nnodes or "1")[1] > 1:
        print(
            "remesh: --master-addr and --master-port have no effect: rank 0's address is agreed on "
            "anew in every generation",
            file=sys.stderr,
        )
        return None, None
    if parsed.master_port:
        # As to torchrun, 0 is a free one.
        _check_port(parsed.master_port)
    return parsed.master_addr, parsed.master_port


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise JobError(f"--master-port is {port}; give a port from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise JobError(
                f"port {port} can't be used ({error.strerror}); give another --master-port, "
                "or none: a free one is found"
            ) from None


def _log_directory(parsed: argparse.Namespace, run_id: str) -> Path | None:
    if not parsed.log_dir:
        return None
    root = Path(parsed.log_dir).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise JobError(f"--log-dir {parsed.log_dir} is no directory")
    return root / run_id
