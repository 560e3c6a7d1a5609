"""What can happen to an agent: words of the session, of its workers, of the person at the keys."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation
from trainer.agent.process import Exit


@dataclass(frozen=True, slots=True)
class Began:
    """A generation was published; this node may or may not be in it."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class BoundaryAsked:
    """Leave the generation at the next step boundary. `going`: nodes the next one is without."""

    generation: int
    reason: str
    going: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserved:
    """The node waits: every generation up to this one is over for it."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over for everybody: completed, failed or stopped."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The node may not take part."""

    reason: str


@dataclass(frozen=True, slots=True)
class NodeBroke:
    """This node can take no part any more, whatever the job does."""

    reason: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """This node has to go within `grace` seconds; `signal` is what told us, if one did."""

    reason: str
    grace: float
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class DrainDone:
    """This node may go; unless `handed_over`, nobody runs on with its state."""

    handed_over: bool = True


@dataclass(frozen=True, slots=True)
class ServiceLost:
    """No rendezvous service is heard any more."""


@dataclass(frozen=True, slots=True)
class ServiceBack:
    """A rendezvous service has taken the node back."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run directory says that the run is over for everybody, and with which exit code."""

    code: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hurry:
    """A second notice: end at once."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A loop worker has imported what it needs and waits."""

    process: int


@dataclass(frozen=True, slots=True)
class Entered:
    """A loop worker has its groups, model and state of `version`, the last step it knows."""

    process: int
    generation: int
    version: int = -1


@dataclass(frozen=True, slots=True)
class Stepped:
    """A worker applied a step."""

    process: int
    generation: int
    step: int


@dataclass(frozen=True, slots=True)
class Waits:
    """A loop worker waits for storage, which is no hang however long it takes; or no more."""

    process: int
    generation: int
    on: bool


@dataclass(frozen=True, slots=True)
class Left:
    """A loop worker is out of a generation; `error` unless it left at a boundary.

    `stopped`: why all ranks go no further, as they have agreed; else empty.
    """

    process: int
    generation: int
    version: int
    error: str = ""
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Spared:
    """The mesh of the generation has no place for this rank; it waits for another one."""

    process: int
    generation: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker is done with the job: completed or stopped.

    `agreed`: and knows that all ranks of the generation are.
    """

    process: int
    generation: int
    status: str
    agreed: bool = False


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The workers are done, but not all that was to be saved is; `reason` says it in words."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Broke:
    """A worker says why it is about to end.

    `code`: no new generation would help, and this is the exit code; None where one may. `error`:
    its fingerprint (see trainer/fingerprint.py); empty where it may pass.
    """

    process: int
    code: int | None
    message: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker's process has ended.

    `said`: the line with which it ended, where it never was ready, or is a script that left one.
    `error`: the fingerprint of that (see trainer/fingerprint.py), empty where it may go better the
    next time.
    """

    process: int
    exit: Exit
    said: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time has passed."""


Fact = (
    Began
    | BoundaryAsked
    | Reserved
    | Ended
    | TurnedAway
    | NodeBroke
    | DrainAsked
    | DrainDone
    | ServiceLost
    | ServiceBack
    | RunEnded
    | Hurry
    | Hello
    | Entered
    | Stepped
    | Waits
    | Left
    | Spared
    | Finished
    | Unsaved
    | Broke
    | Exited
    | Tick
)
