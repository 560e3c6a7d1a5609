"""What an agent knows of its node and its job, and what is true of that now. Pure.

`AgentState` in state.py changes it, fact by fact, and says what follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rendezvous.generation import Generation
from trainer.agent import facts
from trainer.agent.actions import Action
from trainer.agent.alike import Alike
from trainer.agent.hang import HangWatch
from trainer.agent.last_word import LastWord
from trainer.agent.leaving import Ending, Notice, Stop
from trainer.agent.slot import Policy, Slot, Stage
from trainer.agent.standbys import Standbys
from trainer.agent.starts import Starts

NOT_ASKED = facts.BoundaryAsked(0, "")


@dataclass(slots=True)
class Situation:
    """One node's view of one job."""

    node: str
    slot_count: int
    policy: Policy
    generation: Generation | None = None
    slots: list[Slot] = field(init=False)
    _standbys: Standbys = field(default_factory=Standbys)
    _doomed: set[int] = field(default_factory=set)
    _last_process: int = 0
    _running: int = 0
    _left: int = 0
    _failed: int = 0
    _finished: int = 0
    _over: int = 0
    _boundary: facts.BoundaryAsked = NOT_ASKED
    _cause: str = ""
    _notice: Notice | None = None
    _stop: Stop | None = None
    _ending: Ending | None = None
    _starts: Starts = field(init=False)
    _alike: Alike = field(default_factory=Alike)
    _last_word: LastWord = field(init=False)
    _slow_at: float | None = None
    """When to say that no process has become ready yet; None once one has, or it was said."""
    _watch: HangWatch = field(init=False)
    _out: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._watch = HangWatch(self.policy.hang_seconds)
        self._last_word = LastWord(self.node, self.policy)
        self._starts = Starts(self.slot_count, self.policy.own)
        self.slots = [Slot(local_rank) for local_rank in range(self.slot_count)]

    def next_deadline(self) -> float | None:
        """When the next `Tick` is due; None when nothing waits for time alone."""
        times = [slot.deadline for slot in self.slots]
        times += [self._notice_over(), self._watch.deadline(), self._slow_at]
        times.append(self._alike.deadline)
        if self._ending is None:
            times.append(self._last_word.deadline())
        if self._stop is not None and self._ending is None:
            times.append(self._stop.deadline)
        if self._ending is not None and not self._ending.over:
            times.append(self._ending.deadline)
        return min((time for time in times if time is not None), default=None)

    @property
    def ready(self) -> bool:
        """Whether every slot could enter a generation at once."""
        return not self.policy.persistent or all(
            slot.stage not in (Stage.EMPTY, Stage.STARTING) for slot in self.slots
        )

    @property
    def member(self) -> bool:
        """Whether this node is in the newest generation."""
        return self.generation is not None and self.generation.group_rank(self.node) is not None

    @property
    def inside_generation(self) -> bool:
        """Whether every worker of this node is in the newest generation."""
        here = self.member and self._running == self._number
        return here and all(slot.inside for slot in self.slots)

    @property
    def waiting(self) -> bool:
        """Whether the generation that this node was in is over, and none has taken its place."""
        return self.member and (self._over >= self._number or self._stranded)

    @property
    def wonders(self) -> bool:
        """Whether the run may have ended without this node's knowing: nobody is there to say it."""
        own = self._last_word.own
        idle = self._stranded or not self.member or (own is not None and not own.whole)
        return self._last_word.unheard and self._ending is None and idle

    @property
    def unheard(self) -> bool:
        """Whether no rendezvous service is heard."""
        return self._last_word.unheard

    def begins(self, generation: Generation) -> bool:
        """Whether a generation that was published is one for this node, or goes on without it:
        who is on the way out begins none, even where the service did not know that yet."""
        leaves = self._notice is not None or self._ending is not None
        return not leaves or generation.group_rank(self.node) is None

    @property
    def ending(self) -> bool:
        return self._ending is not None

    @property
    def draining(self) -> bool:
        return self._notice is not None

    @property
    def word(self) -> str:
        """What the node does, in one word, for its status."""
        if self.ending:
            return "ending"
        if self.draining:
            return "draining"
        if self.generation is None:
            return "joining" if self.ready else "starting"
        if self.waiting:
            return "waiting"
        return "running" if self.member else "spare"

    def rank_of(self, slot: Slot) -> int | None:
        """The slot's global rank in the newest generation; None when it has none."""
        first = self.generation.first_rank(self.node) if self.generation is not None else None
        return None if first is None else first + slot.local_rank

    @property
    def _number(self) -> int:
        return self.generation.number if self.generation is not None else 0

    @property
    def _alone(self) -> bool:
        return self.generation is not None and len(self.generation.members) == 1 and self.member

    @property
    def _forsaken(self) -> bool:
        """Whether nobody can take this node's state over: no other node, or no other generation."""
        return self._alone or (self.member and self._last_word.unheard)

    @property
    def _stranded(self) -> bool:
        """Whether all workers are out of a generation that was not the last, and no service is
        there to begin another."""
        number = self._number
        out = all(slot.generation == number and not slot.inside for slot in self.slots)
        return out and self._last_word.unheard and self._finished < number > 0

    def _inside(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.inside]

    def _ends_quietly(self) -> bool:
        """On the way out with nobody to take over, no generation is to begin of a failure; and a
        script ends of the same notice."""
        return self._notice is not None and (self._forsaken or not self.policy.persistent)

    def _alive(self) -> list[int]:
        return [slot.process for slot in self.slots if slot.process] + list(self._standbys)

    def _slot_of(self, process: int) -> Slot | None:
        return next((slot for slot in self.slots if process and slot.process == process), None)

    def _notice_over(self) -> float | None:
        forsaken = self._ending is None and (self._forsaken or self.waiting)
        return None if self._notice is None else self._notice.deadline(forsaken=forsaken)
