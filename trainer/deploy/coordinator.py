"""`python -m trainer.deploy.coordinator`: the pod of a spot job that one waits for.

It asks the rendezvous how the job is. When the job is over it scales the agents' Deployment to
nothing, since a Deployment starts ended agents again for ever, and ends as the job did. A job that
has stopped because too few of its nodes were there is not over: when they come back it goes on. It
keeps nothing: killed and started anew it goes on asking. Exit codes: 0 completed (or stopped where
`train.stop_at` says), 1 failed or past the deadline, 2 wrong usage, 75 stopped by an operator.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rendezvous.errors import ConfigurationError, RendezvousError
from rendezvous.security import Security
from rendezvous.session.operator import Operator
from rendezvous.store.location import parse_endpoints
from trainer.outside.numbers import BriefParser, seconds_flag

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE_PORT = 29400
"""Where a service listens unless told otherwise."""
POLL_SECONDS = 1.0
CALL_SECONDS = 10.0
EXIT_COMPLETED, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 75


@dataclass(frozen=True, slots=True)
class Verdict:
    """The job is over: the exit code, and why."""

    code: int
    reason: str


def judge(
    phase: str, reason: str, *, ended_by: str, age: float | None, deadline: float | None
) -> Verdict | None:
    """None while the job goes on. `ended_by` says who ended it: workers, nodes (too few) or
    operator. `age`: seconds since the agents were made, where that is known."""
    if phase == "completed":
        return Verdict(EXIT_COMPLETED, reason)
    if phase == "failed":
        return Verdict(EXIT_FAILED, reason)
    if phase == "stopped" and ended_by == "workers":
        return Verdict(EXIT_COMPLETED, reason)
    if phase == "stopped" and ended_by == "operator":
        return Verdict(EXIT_STOPPED, reason)
    if deadline is not None and age is not None and age > deadline:
        return Verdict(EXIT_FAILED, f"the deadline of {deadline:g} s is over")
    return None


class Agents:
    """The Deployment of the agents, through the rights of this pod's own account."""

    def __init__(self, deployment: str, namespace: str, server: str, account: Path) -> None:
        self._url = f"{server}/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale"
        self._account = account
        authority = account / "ca.crt"
        self._tls = None
        if server.startswith("https"):
            self._tls = ssl.create_default_context(
                cafile=str(authority) if authority.exists() else None
            )

    @classmethod
    def around(cls, deployment: str, environ: Mapping[str, str], account: Path) -> Agents:
        """As a pod finds its API server."""
        host = environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        port = environ.get("KUBERNETES_SERVICE_PORT", "443")
        address = f"[{host}]" if ":" in host else host
        server = environ.get("KUBERNETES_SERVER", f"https://{address}:{port}")
        return cls(deployment, environ.get("POD_NAMESPACE", "default"), server, account)

    def age(self) -> float | None:
        """Seconds since it was made; None when it is gone. Raises OSError without an answer."""
        try:
            made = self._call("GET", None)["metadata"]["creationTimestamp"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        began = datetime.fromisoformat(made)
        return (datetime.now(UTC) - began).total_seconds()

    def dismiss(self) -> None:
        """Scale it to nothing. Raises OSError without an answer."""
        try:
            self._call("PATCH", {"spec": {"replicas": 0}})
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def _call(self, method: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        request = urllib.request.Request(self._url, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/merge-patch+json")
        # Read each time: the kubelet renews it.
        token = (self._account / "token").read_text(encoding="ascii").strip()
        request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=CALL_SECONDS, context=self._tls) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


async def watch(args: argparse.Namespace, operator: Operator, agents: Agents) -> Verdict:
    """Until the job is over; the agents are dismissed then."""
    told = ""
    while True:
        phase, reason, ended_by = "unknown", "", ""
        try:
            jobs = (await operator.status(args.run_id)).jobs
            if jobs:
                phase, reason, ended_by = jobs[0].phase, jobs[0].reason, jobs[0].ended_by
        except RendezvousError as error:
            reason = str(error)
        age = await _try(agents.age) if args.deadline is not None else None
        verdict = judge(phase, reason, ended_by=ended_by, age=age, deadline=args.deadline)
        if f"{phase}: {reason}" != told:
            told = f"{phase}: {reason}"
            _say(f"{args.run_id} is {told}")
        if verdict is not None and await _done(agents.dismiss):
            return verdict
        await asyncio.sleep(args.poll)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = BriefParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--deployment", required=True, help="holds the agents")
    parser.add_argument("--rdzv-endpoint", required=True)
    parser.add_argument("--rdzv-conf", default="", help="tls_ca, tls_cert, tls_key, token_file")
    parser.add_argument("--deadline", type=seconds_flag(), help="seconds the job may take")
    parser.add_argument("--poll", type=seconds_flag(), default=POLL_SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--account", type=Path, default=ACCOUNT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    # As a first process nothing else would end us.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        verdict = asyncio.run(_run(args))
    except ConfigurationError as error:
        _say(str(error))
        return EXIT_USAGE
    _say(f"{args.run_id} ended: {verdict.reason}")
    return verdict.code


async def _run(args: argparse.Namespace) -> Verdict:
    conf = dict(pair.partition("=")[::2] for pair in args.rdzv_conf.split(",") if pair)

    def read_security() -> Security:
        return Security.from_files(
            ca=conf.get("tls_ca"),
            cert=conf.get("tls_cert"),
            key=conf.get("tls_key"),
            token_file=conf.get("token_file"),
        )

    agents = Agents.around(args.deployment, os.environ, args.account)
    endpoints = parse_endpoints(args.rdzv_endpoint, port=SERVICE_PORT)
    asking = Operator(endpoints, security=read_security(), read_security=read_security)
    async with asking as operator:
        return await watch(args, operator, agents)


async def _try(call: Any) -> Any:
    try:
        return await asyncio.to_thread(call)
    except OSError as error:
        _say(f"no answer of the API server: {error}")
        return None


async def _done(call: Any) -> bool:
    try:
        await asyncio.to_thread(call)
    except OSError as error:
        _say(f"the agents could not be dismissed yet: {error}")
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} coordinator: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
