"""Every error this package raises on purpose.

RemeshError
├── JobError               the job, the command line or the surroundings are wrong: exit 2
│   ├── PlanError          no mesh fits the ranks there are
│   └── CheckpointMismatch the checkpoint belongs to another model
├── GenerationOver         the membership changed; enter the next generation
├── ContactLost            a collective was cut; what it returned is nobody's word
├── CheckpointError        a checkpoint can't be written or read
│   └── CheckpointDamaged  a file of it is missing, cut short or altered
├── NoPort                 a node has no port to serve a generation's store on
├── ClusterError           a Kubernetes cluster does not do what was asked
│   ├── ClusterRefused     its API server says no
│   ├── ClusterConflict    another manager holds the fields
│   └── ClusterUnreachable no usable answer in time
└── WorkerError            a worker failed in a way that no new generation mends
    └── ReplicasDiffer     ranks hold different values of what has to be one
"""

from __future__ import annotations


class RemeshError(Exception):
    """The root of the tree."""


class JobError(RemeshError):
    """What the user asked for can't be done; the message says what is wrong and how to mend it."""


class PlanError(JobError):
    """No mesh fits; the message names the constraint and the nearest mesh that would."""


class CheckpointMismatch(JobError):
    """The checkpoint holds another model than the job describes."""


class GenerationOver(RemeshError):
    """This generation has ended; drop its groups and enter the next one.

    `stopped`: why there will be none, where all ranks have agreed on that; else empty.
    """

    def __init__(self, generation: int, reason: str, *, stopped: str = "") -> None:
        super().__init__(f"generation {generation} is over: {reason}")
        self.generation = generation
        self.reason = reason
        self.stopped = stopped


class ContactLost(RemeshError):
    """A collective came back without what the ranks put into it: a peer is gone, or leaving."""


class CheckpointError(RemeshError):
    """A checkpoint can't be written or read."""


class CheckpointDamaged(CheckpointError):
    """A file of a checkpoint is missing, cut short or altered; the message names it."""


class NoPort(RemeshError):
    """No port can be opened; the message says why, and what mends it."""


class ClusterError(RemeshError):
    """A Kubernetes cluster does not do what was asked; the message says which call and why."""


class ClusterRefused(ClusterError):
    """The API server says no."""


class ClusterConflict(ClusterError):
    """Somebody else manages the fields that were to be set, or changed them meanwhile."""


class ClusterUnreachable(ClusterError):
    """The API server gave no usable answer in time."""


class WorkerError(RemeshError):
    """A worker failed in a way that no new generation mends."""


class ReplicasDiffer(WorkerError):
    """Ranks hold different values of what has to be one; the message names the first."""
