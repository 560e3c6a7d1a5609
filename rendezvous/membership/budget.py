"""What a failure of workers costs, and whether the job can still afford it. Pure.

Failures that the job brings on itself (an exception, an exit code, a crash, a hang) are held
against it. A kill from outside is not, unless it hits the same rank or the same step as the
failure before it: the kernel's out-of-memory killer comes back to the same place.

Before the first step, the same error twice in a row is enough: a third start would have it too.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

from rendezvous.membership.events import WorkerFailed
from rendezvous.membership.record import Failure, Record

FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
KEPT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The record with the failure in it, why the job ends (if it does), whom to set aside."""

    record: Record
    ended: str = ""
    set_aside: str = ""
    why_aside: str = ""


def describe(event: WorkerFailed) -> str:
    """For example "worker 3 on node b was killed by SIGKILL at step 12"."""
    if event.signal is not None:
        how = f"was killed by {signal_name(event.signal)}"
    elif event.exit_code is not None:
        how = f"ended with exit code {event.exit_code}"
    else:
        how = "was given up"
    where = f" at step {event.step}" if event.step >= 0 else ""
    cause = f": {event.cause}" if event.cause else ""
    return f"worker {event.rank} on node {event.node} {how}{where}{cause}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure_of(event: WorkerFailed) -> Failure:
    own = event.signal is None or event.signal not in FROM_OUTSIDE
    return Failure(
        step=event.step,
        node=event.node,
        rank=event.rank,
        own=own,
        counted=own,
        text=describe(event),
        error=event.error,
    )


def charge(record: Record, failure: Failure, ready: int) -> Verdict:
    """Enters the failure in the record. `ready` is how many nodes could be in a generation."""
    spec = record.spec
    last = record.evidence[-1] if record.evidence else None
    again = last is not None and (
        (failure.step >= 0 and failure.step == last.step)
        or (failure.node, failure.rank) == (last.node, last.rank)
    )
    failure = replace(failure, counted=failure.own or again)
    evidence = (*record.evidence, failure)[-KEPT:]
    record = replace(record, evidence=evidence, restarts=record.restarts + failure.counted)
    if last is not None and failure.error and failure.error == last.error:
        reason = f"{failure.text}; the start before failed of the same error, before the first step"
        return Verdict(record=record, ended=reason)
    same_step = [f for f in evidence if f.own and f.step >= 0 and f.step == failure.step]
    if len(same_step) >= spec.step_failures and len({f.node for f in same_step}) >= min(
        spec.step_failures, ready
    ):
        told = "; ".join(f.text for f in same_step[-spec.step_failures :])
        reason = f"step {failure.step} has failed {len(same_step)} times: {told}"
        return Verdict(record=record, ended=reason)
    if record.restarts > spec.max_restarts:
        reason = (
            f"{failure.text}; that is failure {record.restarts} of the job's own making, "
            f"max_restarts is {spec.max_restarts}"
        )
        return Verdict(record=record, ended=reason)
    on_node = sum(f.counted and f.node == failure.node for f in evidence)
    if on_node >= spec.node_failures and spec.fitting(ready - 1):
        reason = f"node {failure.node} was set aside: its workers failed {on_node} times"
        return Verdict(record=record, set_aside=failure.node, why_aside=reason)
    return Verdict(record=record)
