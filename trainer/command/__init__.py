"""`remesh`: what a person types. Each subcommand is imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from trainer.outside.numbers import BriefParser
from trainer.outside.streams import show_what_can_be_shown
from trainer.version import VERSION

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_DRAINED = 75
RUNNING = ("run", "resume")
"""Those in which a signal means to leave in order."""

SUBCOMMANDS = {
    "run": "run a job file, or a script as torchrun would",
    "resume": "go on with a run that was drained, stopped, failed or killed",
    "plan": "show the mesh of a job for a number of ranks; starts nothing",
    "schema": "print the JSON Schema of the job file",
    "audit": "prove from a run's record that each sample was used exactly once",
    "status": "show how a run is doing (--cluster: a job on Kubernetes)",
    "runs": "list the runs of this machine: state, step, loss, when",
    "rendezvous": "the rendezvous service: serve, status, drain, scale",
    "checkpoint": "list, show, verify, diff, export, import and prune checkpoints",
    "completion": "print what has bash, zsh or fish complete all of this",
}
ON_A_CLUSTER = {
    "render": "print a job's Kubernetes manifests",
    "validate": "check a job and its manifests without a cluster",
    "submit": "start a job on a cluster",
    "logs": "show what a run's ranks print, or a job's nodes on a cluster",
    "scale": "change a run's number of nodes, here or on a cluster",
    "drain": "have a node, or all of a run, save and leave",
    "delete": "remove a run that is over, or a job from a cluster",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_what_can_be_shown()
    parser = BriefParser(
        prog="remesh",
        description="Elastic, fault-tolerant distributed training for PyTorch.",
        epilog="example: remesh run job.yaml. `remesh COMMAND --help` says more about each.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"remesh {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, text in (SUBCOMMANDS | ON_A_CLUSTER).items():
        commands.add_parser(name, help=text, add_help=False)
    if arguments[:1] == ["help"]:
        # As git and kubectl have it.
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] not in SUBCOMMANDS | ON_A_CLUSTER:
        if arguments and not arguments[0].startswith("-"):
            print(f"remesh: {_unknown(arguments[0])}", file=sys.stderr)
            return EXIT_USAGE
        known = parser.parse_args(arguments)
        assert known.command is None
        parser.print_help()
        return EXIT_USAGE
    if arguments[0] in RUNNING and argv is None:
        from trainer.console import shown_beside

        with shown_beside():
            return _run(arguments, for_good=True)
    return _run(arguments, for_good=argv is None)


def _run(arguments: list[str], *, for_good: bool) -> int:
    """Returns the exit code. `for_good`: the process is ours, and ends with what is returned."""
    from trainer.errors import JobError
    from trainer.signals import LEAVE_SIGNALS, LISTENER, LeftEarly

    try:
        if arguments[0] in RUNNING:
            LISTENER.listen(LEAVE_SIGNALS, raises=True)
        code = _dispatch(arguments[0], arguments[1:])
    except JobError as error:
        for line in str(error).splitlines():
            print(f"remesh: {line}", file=sys.stderr)
        return EXIT_USAGE
    except PermissionError as error:
        if error.filename is None or arguments[0] in RUNNING:
            raise
        print(f"remesh: {error.filename}: {error.strerror}; whose is it?", file=sys.stderr)
        return EXIT_USAGE
    except LeftEarly as early:
        print(f"remesh: left: {early}; the same command starts it", file=sys.stderr)
        return EXIT_DRAINED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; don't complain again when Python flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        LISTENER.close(for_good=for_good)
    return code


def _unknown(word: str) -> str:
    """What to say of a word that stands where a command should."""
    import difflib

    near = difflib.get_close_matches(word, SUBCOMMANDS | ON_A_CLUSTER, n=1)
    if not near and (word.endswith((".yaml", ".yml", ".py")) or os.path.isfile(word)):  # noqa: PTH113
        return f"{word!r} is no command; did you mean `remesh run {word}`?"
    rest = f"did you mean {near[0]}?" if near else "`remesh --help` lists them"
    return f"{word!r} is no command; {rest}"


def _dispatch(name: str, arguments: list[str]) -> int:
    if name in ON_A_CLUSTER or (name == "status" and "--cluster" in arguments):
        from trainer.command import cluster

        return cluster.main(name, arguments)
    code = import_module(f"trainer.command.{name}").main(arguments)
    assert isinstance(code, int)
    return code
