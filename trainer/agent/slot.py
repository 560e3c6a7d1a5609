"""A rank's place on a node, and how patient the agent is with whoever has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient an agent is with its workers. Times in seconds.

    `persistent`: loop workers; `own`: in a program of the user's. `interrupt_seconds`: from an
    interrupt to the dump of stacks. `dump_seconds`: from there to the kill. `quit_seconds`: for an
    orderly end. `hang_seconds`: a step that takes longer is taken for a hang, None to learn it from
    the steps before.
    `stop_seconds`: for the step and the save with which a job that is stopped ends.
    `last_word_seconds`: for a service to say that a job is over which is (`Timeouts.last_word`).
    `restart_seconds`: for a service to begin another generation after a script has failed
    (`JobSpec.wait`). `max_restarts`: how many failures the job survives.
    """

    persistent: bool
    own: bool = False
    standby: int = 0
    interrupt_seconds: float = 5.0
    dump_seconds: float = 0.5
    quit_seconds: float = 10.0
    hang_seconds: float | None = None
    stop_seconds: float = 30.0
    last_word_seconds: float = 10.0
    restart_seconds: float = 600.0
    max_restarts: int = 0


class Stage(Enum):
    """Where a slot's process stands."""

    EMPTY = auto()
    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    LEAVING = auto()
    SPARE = auto()
    DONE = auto()


@dataclass(slots=True)
class Slot:
    """One rank's place. `generation` is the last one it was told to enter."""

    local_rank: int
    process: int = 0
    stage: Stage = Stage.EMPTY
    generation: int = 0
    entered: bool = False
    asked: bool = False
    waits: bool = False
    version: int = 0
    step: int = -1
    status: str = ""
    agreed: bool = False
    """Whether its rank is done and knows that all ranks of the generation are."""
    stopped: str = ""
    """Why it has left for good, as all ranks agreed; empty where another generation follows."""
    message: str = ""
    error: str = ""
    """The fingerprint of what its process said it failed of; empty for none that would return."""
    deadline: float | None = None
    dumped: bool = False

    @property
    def inside(self) -> bool:
        """Whether its process is in a generation."""
        return self.stage in (Stage.BUSY, Stage.LEAVING)
