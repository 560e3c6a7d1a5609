"""Whether a generation begins, ends, or is waited for. Looks at counts, unless one begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rendezvous.generation import Generation, Member
from rendezvous.membership.budget import charge, describe, failure_of
from rendezvous.membership.job import Boundary, Job, Phase, Unrecorded, counted, listed
from rendezvous.membership.record import Failure
from rendezvous.membership.seats import seat
from rendezvous.membership.unrecorded import all_back

WORDS_SECONDS = 3.0
"""An agent holds a first failure back for 2 s, to hear its other ranks; this is a little more."""


def decide(job: Job) -> None:
    """Brings the job to where nothing more can be done now, and sets the alarm."""
    job.alarm = None
    if job.record is None or job.known.ended is not None:
        return
    if job.unrecorded is not None:
        _hear_out(job, job.unrecorded)
    elif job.active is not None:
        _tend(job)
    if job.known.ended is None and not job.standing:
        _form(job)
    if job.known.ended is None and job.unrecorded is None:
        _settle_drains(job)


# While a generation stands


def _tend(job: Job) -> None:
    if job.phases[Phase.FINISHED] and job.phases[Phase.FINISHED] == job.seated:
        _conclude(job)
        return
    if job.agreed is not None:
        _await_the_others(job, job.agreed[0])
        return
    draining = [n for n in job.known.drains if n in job.nodes and job.nodes[n].seated]
    if job.lost or job.failed:
        _replace(job, [*job.lost, *(describe(event) for event in job.failed)])
    elif job.boundary is not None:
        _await_boundary(job, job.boundary, draining)
    elif job.deserted is not None:
        since, _, _, reason = job.deserted
        if job.phases[Phase.LEFT] == job.seated or job.due(since + job.spec.beat_timeout):
            _replace(job, [reason])
    else:
        _ask_if_wanted(job, draining)


def _hear_out(job: Job, told: Unrecorded) -> None:
    """Members are in a generation of which the store has no record: the next one heals that."""
    if job.agreed is not None:
        _await_the_others(job, job.agreed[0])
        return
    if not all_back(job) or _in_doubt(job):
        return
    done = job.phases[Phase.FINISHED]
    broken = job.lost or job.failed or job.deserted
    if done and done == job.seated:
        _conclude(job)
    elif broken or not done or job.due(told.until + job.spec.boundary_timeout):
        # Where one is done, the others may be in a moment too.
        _replace(job, [told.reason, *job.lost, *(describe(event) for event in job.failed)])


def _await_the_others(job: Job, since: float) -> None:
    """Every rank was done: who is lost now, or has not said so, undoes nothing. The others mostly
    follow at once."""
    gone = job.lost or job.failed or job.deserted
    if gone or job.due(since + job.spec.beat_timeout):
        _conclude(job)


def _conclude(job: Job) -> None:
    active = job.active
    statuses = {node.finish for node in job.nodes.values() if node.phase is Phase.FINISHED}
    count = job.seated
    if job.agreed is not None:
        statuses = {job.agreed[1]}
        count = len(active.members) if active is not None else job.seated
    after = f", after {listed(job.lost)}" if job.lost else ""
    if statuses == {"completed"}:
        reason = f"{counted(count, 'node')} completed the job{after}"
        job.end("completed", reason, by="workers")
    else:
        job.end("stopped", f"the nodes stopped{after}", by="workers")


def _drain_words(job: Job, names: list[str]) -> str:
    drains = job.known.drains
    return listed(f"node {name} drains ({drains[name].reason})" for name in names)


def _ask_if_wanted(job: Job, draining: list[str]) -> None:
    """Drains, scaling and growth wait for the next step boundary; the members are asked for it."""
    active = job.active
    assert active is not None
    spec = job.spec
    if draining:
        _ask(job, _drain_words(job, draining), draining)
        return
    if job.phases[Phase.FINISHED]:
        return
    have, want = len(active.members), job.fitting
    if 0 < want < have:
        _ask(job, f"the job shrinks from {have} to {counted(want, 'node')}", [])
    elif want > have == job.phases[Phase.RUNNING] and job.due(job.grown + spec.grow_interval):
        # Counted from the asking: who comes and goes all the time must not stop the others often.
        job.grown = job.now
        _ask(job, _newcomers(job), [])


def _newcomers(job: Job) -> str:
    new = [name for name in job.ready if not job.nodes[name].seated]
    new.sort(key=lambda name: job.nodes[name].joined)
    return listed(f"node {name} joined" for name in new)


def _ask(job: Job, reason: str, draining: list[str]) -> None:
    job.boundary = Boundary(
        reasons=[reason],
        deadline=job.now + job.spec.boundary_timeout,
        going=_going(job),
        drains=set(draining),
    )
    job.ask_boundary(_seated(job), job.boundary)
    _await_boundary(job, job.boundary, draining)


def _seated(job: Job) -> list[str]:
    return [name for name, node in job.nodes.items() if node.seated]


def _going(job: Job) -> tuple[str, ...]:
    """Members that the next generation would be without; those that could only wait, stay."""
    staying = {member.node for member in _seats(job)} if job.fitting else job.ready
    return tuple(name for name in _seated(job) if name not in staying)


def _await_boundary(job: Job, boundary: Boundary, draining: list[str]) -> None:
    """A drain must not depend on the step's end: half of the grace is for handing over."""
    for name in draining:
        node = job.nodes[name]
        drain = job.known.drains[name]
        boundary.deadline = min(boundary.deadline, node.drain_ends - drain.grace / 2)
    if more := [name for name in draining if name not in boundary.drains]:
        # Who was going to leave its state with one of these needs to know.
        boundary.reasons.append(_drain_words(job, more))
        boundary.drains.update(more)
        boundary.going = _going(job)
        job.ask_boundary(_seated(job), boundary)
    out = job.phases[Phase.LEFT] + job.phases[Phase.FINISHED]
    if out == job.seated or job.due(boundary.deadline):
        _replace(job, boundary.reasons)


def _replace(job: Job, reasons: list[str]) -> None:
    """The generation is over. The next one begins if there are nodes for it."""
    if _in_doubt(job) or _awaits_words(job):
        return
    if job.fitting and not _listens(job):
        return
    if not _afford(job, reasons):
        if job.known.ended is None:
            _replace(job, job.lost)
        return
    if job.fitting:
        _begin(job, listed(reasons))
    else:
        _disband(job, listed(reasons))


def _in_doubt(job: Job) -> bool:
    """Whether a member may be lost as well: then one new generation is better than two."""
    if len(job.absent):
        return True
    return any(job.nodes[name].seated and not job.nodes[name].draining for name in job.doubted)


def _silent(job: Job) -> int:
    """How many members have not said how the generation ended for them."""
    return job.phases[Phase.ENTERING] + job.phases[Phase.RUNNING]


def _awaits_words(job: Job) -> bool:
    """Whether it may still be heard that all ranks fail alike before the first step."""
    if job.lost or not any(event.error for event in job.failed):
        return False
    return _silent(job) > 0 and not job.due(job.failed_since + WORDS_SECONDS)


def _all_alike(job: Job) -> bool:
    """Whether every rank of every member failed with one error, before any step."""
    error = job.failed[0].error
    same = {event.node for event in job.failed if event.whole and event.error == error}
    concerned = {n for n, node in job.nodes.items() if node.seated and not node.finish}
    return bool(error) and concerned <= same


def _nobody_stepped(job: Job) -> bool:
    """Whether all members have spoken, and none has done a step."""
    if _silent(job) or not all(event.error for event in job.failed):
        return False
    return not any(node.stepped for node in job.nodes.values() if node.seated)


def _listens(job: Job) -> bool:
    """Whether the store of the next generation has a socket; it is waited for, but not forever."""
    first = _first(job)
    if job.nodes[first.node].fresh:
        return True
    if job.unready is None:
        job.unready = job.now
    if not job.due(job.unready + job.spec.boundary_timeout):
        return False
    job.unready = None
    job.ready.discard(first.node)
    job.note(first.node, f"node {first.node} is passed over: it has no socket for the store")
    job.alarm = job.now
    return False


def _afford(job: Job, reasons: list[str]) -> bool:
    """Charges a failure to the job, unless a lost node explains it.

    False: that ended the job, or cost it a node.
    """
    if job.lost or not (job.failed or job.deserted):
        return True
    if job.failed:
        failure = failure_of(job.failed[0])
        if _all_alike(job):
            job.end(
                "failed", f"every rank failed before the first step: {failure.text}", by="workers"
            )
            return False
        if not _nobody_stepped(job):
            failure = replace(failure, error="")
    else:
        assert job.deserted is not None
        _, node, version, text = job.deserted
        failure = Failure(step=version, node=node, rank=-1, own=False, counted=False, text=text)
    verdict = charge(job.known, failure, len(job.ready))
    job.record = verdict.record
    job.failed.clear()
    job.deserted = None
    if verdict.ended:
        job.end("failed", verdict.ended, by="workers")
        return False
    if verdict.set_aside:
        name, why = verdict.set_aside, verdict.why_aside
        job.write(set_aside={**job.known.set_aside, name: why})
        job.refuse(name, job.nodes[name].member.incarnation, why, retryable=False)
        job.drop(name)
        job.lost.extend([*reasons, why])
        return False
    return True


# Between generations


def _form(job: Job) -> None:
    """Too few nodes are waited for; at the start, so are more than few."""
    spec, count = job.spec, job.fitting
    if not count:
        job.enough = None
        limit = spec.wait if job.started else spec.join_timeout
        if job.due(job.forming + limit):
            here = counted(len(job.ready), "node")
            reason = f"{here} after {limit:.0f} s, at least {spec.min_nodes} needed"
            job.end("stopped", reason, by="nodes")
        return
    if job.enough is None:
        job.enough = job.now
    full = count == spec.fitting(job.known.target or spec.max_nodes)
    if job.first and not full and not job.due(job.enough + spec.last_call):
        return
    if _listens(job):
        here = counted(len(job.ready), "node")
        _begin(job, f"{here} joined" if job.first else f"enough nodes again: {here}")


def _seats(job: Job) -> tuple[Member, ...]:
    """Who would be in the next generation."""
    last = job.known.generation
    order = sorted(job.ready, key=lambda name: job.nodes[name].joined)
    ready: Mapping[str, Member] = {name: job.nodes[name].member for name in order}
    return seat(last.members if last else (), ready, job.fitting)


def _first(job: Job) -> Member:
    """Who would be the first of them; nobody else's seat is looked for if that is as it was."""
    last = job.known.generation
    if last is not None and (before := last.members[0]).node in job.ready:
        now = job.nodes[before.node].member
        if now.incarnation == before.incarnation:
            return now
    return _seats(job)[0]


def _begin(job: Job, reason: str) -> None:
    seats = _seats(job)
    before = {name for name, node in job.nodes.items() if node.seated}
    names = {member.node for member in seats}
    generation = Generation(
        number=max(job.number, job.heard_number) + 1,
        members=seats,
        reason=reason,
        restarts=job.known.restarts,
        secret=job.secrets(),
    )
    drains = {name: d for name, d in job.known.drains.items() if name in job.nodes}
    job.write(generation=generation, active=True, drains=drains)
    job.remember_seats()
    grows = job.first or not names <= before
    job.began = job.now
    job.grown = job.now if grows else job.grown
    job.first, job.started = False, True
    job.forget_generation()
    for member in seats:
        node = job.nodes[member.node]
        node.fresh, node.stateful, node.finish = False, True, ""
        job.move(member.node, Phase.ENTERING)
    dropped = [name for name in before if name not in names]
    for name in sorted(dropped, key=lambda name: job.nodes[name].joined):
        job.move(name, Phase.SPARE)
    to = [member.node for member in seats]
    job.publish(generation, [*to, *sorted(dropped)])
    for name in sorted(dropped):
        if not job.nodes[name].draining:
            job.keep_spare(name, f"node {name} is a spare: {counted(len(to), 'node')} fit the job")


def _disband(job: Job, reason: str) -> None:
    job.write(generation=job.as_known(), active=False)
    job.forming = job.now
    # When all have gone it is a start like the first one: it need not begin with the least.
    job.first = not job.ready
    job.forget_generation()
    here = counted(len(job.ready), "node")
    spec = job.spec
    need = f"at least {spec.min_nodes} needed, waiting up to {spec.wait:.0f} s"
    told = f"{reason}; {here} left, {need}"
    for name, node in list(job.nodes.items()):
        if node.seated:
            job.move(name, Phase.SPARE)
            if not node.draining:
                job.keep_spare(name, told)


# Drains


def _settle_drains(job: Job) -> None:
    """A drained node may go when the others run on with its state, or when nobody can."""
    settled = job.active is not None and not (job.lost or job.failed or job.deserted)
    running = job.phases[Phase.RUNNING] + job.phases[Phase.FINISHED]
    for name in job.known.drains:
        node = job.nodes.get(name)
        if node is None or node.seated or node.drained:
            continue
        if not node.stateful:
            job.drain_done(name, f"node {name} has no state", handed_over=True)
        elif settled and running == job.seated:
            reason = f"generation {job.number} runs without node {name}"
            job.drain_done(name, reason, handed_over=True)
        elif job.active is None:
            job.drain_done(name, "no generation takes its state over", handed_over=False)
        elif job.due(node.drain_ends):
            job.drain_done(name, "the grace period is over", handed_over=False)
