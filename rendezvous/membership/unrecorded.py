"""A generation that live members are in, and that the store knows nothing of.

The store has gone back in time: it was restored from a snapshot, or has lost its last write, or
all it had. What the members say is newer than the record, and wins: the next generation begins
above theirs, once all who may be in it have had the time to come back. Until then they are left
alone, and heard: a failure is answered by the next generation, and who is done ends the job.

Who is in it, and in which order, nobody says. So it is told to nobody, and gone on with no longer.
"""

from __future__ import annotations

from dataclasses import replace

from rendezvous.bounds import MAX_CLAIM
from rendezvous.membership.effects import Warn
from rendezvous.membership.events import Join
from rendezvous.membership.job import Job, Phase, Unrecorded


def overtake(job: Job, event: Join) -> None:
    """If the node has heard of a generation above the record's, it is believed.

    But a job that has completed stays completed, whoever says what; and nobody is believed who
    would leave no numbers for the generations to come.
    """
    ended = job.known.ended
    completed = ended is not None and ended.status == "completed"
    if completed or not job.number < event.generation <= MAX_CLAIM:
        return
    first = Unrecorded(
        number=event.generation,
        stored=job.number,
        ended="" if ended is None else ended.status,
        until=job.now + event.spec.leader_grace,
    )
    told = replace(job.unrecorded or first, number=event.generation)
    job.unrecorded, job.newest = told, event.generation
    job.first, job.started = False, True
    job.write(spec=event.spec, active=False, ended=None)
    job.tell(Warn(reason=f"{told.reason}; the next one will be above both"))
    for name, node in list(job.nodes.items()):
        if name in job.absent:
            # A member of a generation that is long over: who comes now is a newcomer.
            job.drop(name)
        elif name != event.node and node.seated and not place(job, name, node.heard):
            job.keep_spare(name, prospect(job))


def place(job: Job, name: str, generation: int) -> bool:
    """The node has heard of `generation`: if it is the unrecorded one it counts as a member of it,
    if not, it is none of them. Whether it is."""
    node = job.nodes[name]
    if generation != job.newest:
        job.move(name, Phase.SPARE)
        return False
    if not node.seated:
        node.stateful = True
        job.move(name, Phase.ENTERING)
    return True


def prospect(job: Job) -> str:
    """What a node waits for that is not in it."""
    return f"waiting for the members of generation {job.newest} to come back"


def all_back(job: Job) -> bool:
    """Whether nobody else can be in it, or can still come in time. Sets the alarm if not."""
    assert job.unrecorded is not None
    return job.seated >= job.spec.max_nodes or job.due(job.unrecorded.until)
