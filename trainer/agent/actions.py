"""What an agent does. `process` is the agent's own number for a process, never a pid."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous.generation import Generation


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a loop worker; a standby in the background."""

    process: int
    standby: bool


@dataclass(frozen=True, slots=True)
class Promote:
    """A place waits for it: let a standby that is still starting do so at full speed."""

    process: int


@dataclass(frozen=True, slots=True)
class Enter:
    """Put `process` into its place: a loop worker is told, a script is started."""

    process: int
    local_rank: int
    generation: Generation


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Get it out of `generation` now: a message to a loop, `signal` to a script."""

    process: int
    generation: int
    reason: str
    signal: int


@dataclass(frozen=True, slots=True)
class Boundary:
    """Ask a loop worker to leave at the next step boundary; `save`: nobody takes its state over,
    so it has to be in storage before; `stop`: and no other generation follows."""

    process: int
    generation: int
    reason: str
    save: bool
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Dump:
    """Have it write every thread's stack into its log, and note why."""

    process: int
    event: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End it and its children at once."""

    process: int
    reason: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Tell a loop worker that everything is done."""

    process: int


@dataclass(frozen=True, slots=True)
class TellRunning:
    """All workers of this node are in the generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class TellLeft:
    """All workers of this node are out of it at `version`. `going`: and their state must be with
    another node before it is said, as this one will not be in the next generation. `stepped`: a
    step was done here since the agent began."""

    generation: int
    version: int
    cause: str
    going: bool = False
    stepped: bool = False


@dataclass(frozen=True, slots=True)
class TellFailed:
    """A worker failed in the generation. `code` and `signal` are None when it was replaced.

    `error`: its fingerprint, where it was before any step and would come again. `whole`: every rank
    of this node failed with that.
    """

    generation: int
    rank: int
    code: int | None
    signal: int | None
    step: int
    cause: str
    error: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class TellFinished:
    """All workers of this node are done: completed, stopped or failed. Unless they failed, it is
    said once what they had to save is saved. `whole`: and those of all other nodes too."""

    generation: int
    status: str
    reason: str
    whole: bool = False


@dataclass(frozen=True, slots=True)
class TellDrain:
    """This node has to go."""

    grace: float
    reason: str


@dataclass(frozen=True, slots=True)
class Show:
    """Let the person who watches know."""

    text: str


@dataclass(frozen=True, slots=True)
class Depart:
    """Every process has ended: say goodbye to the service and end with `code`.

    `whole`: the run is over for everybody, not only this node's part in it. `save_seconds`: nobody
    runs on with this node's state, and so much time is left to save what of it is staged.
    """

    code: int
    status: str
    reason: str
    whole: bool
    save_seconds: float = 0.0


Action = (
    Spawn
    | Promote
    | Enter
    | Interrupt
    | Boundary
    | Dump
    | Kill
    | Quit
    | TellRunning
    | TellLeft
    | TellFailed
    | TellFinished
    | TellDrain
    | Show
    | Depart
)
