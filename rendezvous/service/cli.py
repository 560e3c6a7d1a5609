"""`remesh rendezvous …`, and `python -m rendezvous …` where training is not installed."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

from rendezvous.errors import ConfigurationError, RendezvousError
from rendezvous.outside.names import NODE, RUN_ID, named
from rendezvous.outside.numbers import BriefParser, seconds_flag, whole_flag
from rendezvous.outside.streams import show_what_can_be_shown
from rendezvous.security import Security, ServerSecurity, Tokens, read_pem
from rendezvous.service.reply import as_json, as_text
from rendezvous.session.operator import Operator
from rendezvous.store import MemoryStore, Store
from rendezvous.store.location import parse_endpoints, parse_etcd
from rendezvous.timeouts import Timeouts
from rendezvous.wire import rendezvous_pb2 as wire

DEFAULT_PORT = 29400
DEFAULT_ENDPOINT = f"127.0.0.1:{DEFAULT_PORT}"
STORE_TIMEOUT = 1.5
"""Seconds, as `rendezvous.etcd.Deadlines` has it."""
EXIT_FAILED, EXIT_USAGE = 1, 2
GARBAGE_FROM = 50_000
"""So many objects more than before, and Python looks for garbage among them (as it comes, 700)."""

SERVE_HELP = """\
Serve the rendezvous: agents join, and are told who trains together.

Run two or three replicas over one etcd; one of them leads, the others point to it, and when it
dies another takes over. Running jobs don't notice. With --store memory there is one replica, and
its jobs are forgotten when it ends (the running ones go on, and can't change).

  remesh rendezvous serve --store memory --listen 127.0.0.1:29400
  remesh rendezvous serve --store etcd://10.0.0.1:2379,10.0.0.2:2379 --listen 0.0.0.0:29400 \\
      --advertise rdzv-0.example:29400 --tls-cert cert.pem --tls-key key.pem --token-file tokens
"""
STATUS_HELP = """\
Show jobs, generations and nodes, who leads, and why each generation began.

  remesh rendezvous status --endpoint h1:29400,h2:29400
  remesh rendezvous status --json | jq '.jobs[].generation'
"""

FORGET_HELP = """\
Remove the records of jobs from the service and its store.

A job that has ended is remembered for a day, and the newest 1,000 of them, so that an agent which
comes late hears how it ended and does not begin it anew. Forgetting it makes its name free: an
agent that comes with it starts the job again (from its checkpoints, where it has any). Run
directories and checkpoints are not touched.

  remesh rendezvous forget --ended                       every job that has ended
  remesh rendezvous forget llama-7b llama-7b-retry       these two, if they have ended
  remesh rendezvous forget llama-7b --force              one that has not, or can't be read, too

A job that goes on is refused by name. With --force its agents, if any live, come back at once and
go on in a new generation; what was counted against them, and what operators asked for, is gone.

Exit code: 0 all that was named is forgotten (with --ended: whatever there was); 1 something is
not, as the lines say; 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the subcommands; `run` takes what it parses."""
    commands = parser.add_subparsers(dest="rendezvous_command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    _serve_arguments(
        commands.add_parser(
            "serve", help="run a replica", description=SERVE_HELP, formatter_class=raw
        )
    )
    status = commands.add_parser(
        "status", help="show jobs and nodes", description=STATUS_HELP, formatter_class=raw
    )
    status.add_argument("run_id", nargs="?", default="", help="one job (default: all)")
    status.add_argument("--json", action="store_true", help="for programs")
    drain = commands.add_parser("drain", help="ask a node to leave with notice")
    drain.add_argument("run_id", help="the job")
    drain.add_argument("node", help="the node's name, as `status` shows it")
    drain.add_argument(
        "--grace", type=seconds_flag(), default=30.0, help="seconds (default: %(default)s)"
    )
    drain.add_argument("--reason", default="an operator asked for it", help="for the record")
    scale = commands.add_parser("scale", help="change a job's number of nodes")
    scale.add_argument("run_id", help="the job")
    scale.add_argument(
        "--nodes", type=whole_flag(1, 65_536), required=True, help="within the job's bounds"
    )
    stop = commands.add_parser("stop", help="end a job; it can be resumed")
    stop.add_argument("run_id", help="the job")
    stop.add_argument("--reason", default="an operator asked for it", help="for the record")
    forget = commands.add_parser(
        "forget", help="remove jobs' records", description=FORGET_HELP, formatter_class=raw
    )
    forget.add_argument("run_ids", nargs="*", metavar="RUN", help="jobs to forget")
    forget.add_argument("--ended", action="store_true", help="forget all that have ended")
    forget.add_argument(
        "--force", action="store_true", help="of those named, also one that has not ended"
    )
    for command in (status, drain, scale, stop, forget):
        add_client_arguments(command)


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the services are, and what to show them."""
    parser.add_argument(
        "--endpoint",
        default=DEFAULT_ENDPOINT,
        metavar="HOST:PORT[,…]",
        help="any of the services (default: %(default)s)",
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="who signed the services' certificates")
    parser.add_argument("--tls-cert", metavar="FILE", help="own certificate, if they ask for one")
    parser.add_argument("--tls-key", metavar="FILE", help="its key")
    parser.add_argument("--token-file", metavar="FILE", help="holds the job's token")


def run(args: argparse.Namespace) -> int:
    """Carry out what was parsed; returns the exit status."""
    try:
        if args.rendezvous_command == "serve":
            return asyncio.run(_serve(args))
        return asyncio.run(_operate(args))
    except ConfigurationError as error:
        return _fail(str(error), EXIT_USAGE)
    except RendezvousError as error:
        return _fail(str(error), EXIT_FAILED)


def main(argv: Sequence[str] | None = None) -> int:
    show_what_can_be_shown()
    parser = BriefParser(prog="python -m rendezvous", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        required=True,
        metavar="memory|etcd://HOST:PORT[,…]",
        help="where jobs are kept; etcds:// is etcd over TLS. Other members that the cluster names "
        "are used too, unless ?learn=0 is behind the list",
    )
    parser.add_argument(
        "--listen", default=DEFAULT_ENDPOINT, metavar="HOST:PORT", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        help="how agents and other replicas reach this one (default: the address of --listen, "
        "or this host's name if that is a wildcard)",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="this service's certificate, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its key")
    parser.add_argument(
        "--tls-ca", metavar="FILE", help="demand of every agent a certificate signed by this"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a line holds a token for all jobs, or RUN_ID and its token; several lines for the "
        "same will all do, the old and the new one. Read again while it runs, as certificates are",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond this machine without TLS or a token: who reaches it may do anything",
    )
    parser.add_argument(
        "--metrics-listen", metavar="HOST:PORT", help="serve /metrics for Prometheus there"
    )
    parser.add_argument(
        "--lease",
        type=seconds_flag(),
        default=Timeouts().lease,
        metavar="SECONDS",
        help="how long a leader that vanishes keeps others out (default: %(default)s)",
    )
    parser.add_argument("--store-tls-ca", metavar="FILE", help="who signed etcd's certificates")
    parser.add_argument("--store-tls-cert", metavar="FILE", help="own certificate for etcd")
    parser.add_argument("--store-tls-key", metavar="FILE", help="its key")
    parser.add_argument("--store-user", metavar="NAME", help="etcd's user, where it has users")
    parser.add_argument("--store-password-file", metavar="FILE", help="holds that user's password")
    parser.add_argument(
        "--store-timeout",
        type=seconds_flag(0.01),
        default=STORE_TIMEOUT,
        metavar="SECONDS",
        help="how long one member of etcd may take to answer; two thirds of it to connect, and ten "
        "thirds for all of them together (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")


async def _serve(args: argparse.Namespace) -> int:
    from rendezvous.service.files import check_pair
    from rendezvous.service.server import serve

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Ten thousand streams are a million objects that stay. Python would walk over all of them every
    # few hundred that are added, a second and more in all while a crowd joins.
    gc.set_threshold(GARBAGE_FROM, *gc.get_threshold()[1:])
    # grpc's own words about connections that end are no news here.
    logging.getLogger("grpc").setLevel(logging.WARNING)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def read_security() -> ServerSecurity:
        found = ServerSecurity(
            cert=_pem(args.tls_cert),
            key=_pem(args.tls_key),
            ca=_pem(args.tls_ca),
            tokens=Tokens.from_file(args.token_file) if args.token_file else Tokens(),
        )
        if args.tls_cert:
            check_pair(args.tls_cert, args.tls_key)
        return found

    security = read_security()
    store = open_store(args)
    try:
        await serve(
            store,
            listen=args.listen,
            stop=stop,
            advertise=args.advertise,
            security=security,
            read_security=read_security,
            timeouts=Timeouts(lease=args.lease),
            insecure=args.insecure,
            metrics_listen=args.metrics_listen,
            handover=0.0 if args.store == "memory" else 1.5,
        )
    finally:
        await store.close()
    return 0


def open_store(args: argparse.Namespace) -> Store:
    """The store that `--store` names. Raises ConfigurationError."""
    if args.store == "memory":
        return MemoryStore()
    location = parse_etcd(args.store)
    from rendezvous.etcd import Access, Deadlines, EtcdClient

    def read_access() -> Access:
        password = _pem(args.store_password_file)
        return Access(
            ca=_pem(args.store_tls_ca),
            cert=_pem(args.store_tls_cert),
            key=_pem(args.store_tls_key),
            user=args.store_user,
            password=password.decode(errors="replace").strip() if password is not None else None,
            tls=location.tls,
        )

    return EtcdClient(
        location.endpoints,
        access=read_access(),
        deadlines=Deadlines.of(args.store_timeout),
        read_access=read_access,
        learn=location.learn,
    )


async def _operate(args: argparse.Namespace) -> int:
    _check_names(args)
    security = Security.from_files(
        ca=args.tls_ca, cert=args.tls_cert, key=args.tls_key, token_file=args.token_file
    )
    endpoints = parse_endpoints(args.endpoint, port=DEFAULT_PORT)
    async with Operator(endpoints, security=security) as operator:
        match args.rendezvous_command:
            case "status":
                status = await operator.status(args.run_id)
                sys.stdout.write(as_json(status) if args.json else as_text(status))
                return 0 if status.leader == status.service else EXIT_FAILED
            case "drain":
                reply = await operator.drain(
                    args.run_id, args.node, grace=args.grace, reason=args.reason
                )
            case "scale":
                reply = await operator.scale(args.run_id, args.nodes)
            case "forget":
                return _tell_forgotten(
                    await operator.forget(args.run_ids, ended=args.ended, force=args.force)
                )
            case _:
                reply = await operator.stop(args.run_id, reason=args.reason)
    return 0 if reply.accepted else _fail(reply.reason, EXIT_FAILED)


def _check_names(args: argparse.Namespace) -> None:
    """What no service would know is refused without asking one. Raises ConfigurationError."""
    if args.rendezvous_command == "forget":
        if args.ended == bool(args.run_ids) or (args.ended and args.force):
            raise ConfigurationError("forget: name jobs (with --force or without), or say --ended")
        run_ids = args.run_ids
    else:
        run_ids = [args.run_id] if args.run_id else []
    try:
        for run_id in run_ids:
            named(RUN_ID, run_id)
        if args.rendezvous_command == "drain":
            named(NODE, args.node)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _tell_forgotten(reply: wire.ForgetReply) -> int:
    """Say what became of each; the exit status."""
    if reply.reason:
        return _fail(reply.reason, EXIT_FAILED)
    jobs = "1 job is" if len(reply.forgotten) == 1 else f"{len(reply.forgotten)} jobs are"
    sys.stdout.write(f"{jobs} forgotten\n")
    for run_id, why in sorted(reply.kept.items()):
        _fail(f"{run_id} is not forgotten: {why}", EXIT_FAILED)
    return EXIT_FAILED if reply.kept else 0


def _pem(path: str | None) -> bytes | None:
    return read_pem(path) if path else None


def _fail(reason: str, status: int) -> int:
    sys.stderr.write(f"remesh rendezvous: {reason}\n")
    return status
