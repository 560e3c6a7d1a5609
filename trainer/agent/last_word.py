"""How a node ends when no rendezvous service says that it may. Pure.

Training needs no service, and a job may come to its end while none is there: all that is missing
then is somebody who says so. A node that is done waits a while for that, so that a service
which comes back hears of it, and ends by itself afterwards.

All times are of the agent's clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rendezvous.membership.budget import FROM_OUTSIDE
from trainer.agent.leaving import EXIT_COMPLETED, EXIT_DRAINED, EXIT_FAILED
from trainer.agent.process import Exit
from trainer.agent.slot import Policy

NO_ANSWER = "no rendezvous service answered"
"""Why a node that is done ends by itself."""
OTHERS_SECONDS = 3.0
"""How much longer a node waits that ended well and does not know of the others: one that failed
beside it ends first, and its word is found in the run directory, which is read each second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEnd:
    """How this node ends if no service has another word for it.

    `what` has happened, and `but` how it can't go on, in words. `whole`: the run is over for
    everybody. `certain`: nothing that a service could say would change it, so that it also holds
    where one is heard that says nothing, because it can't write for instance. `save`: nobody goes
    on with the node's state. `patience`: for how many seconds a service is waited for.
    """

    code: int
    status: str
    what: str
    but: str
    patience: float
    whole: bool = False
    certain: bool = False
    save: bool = False

    @property
    def reason(self) -> str:
        """For the record."""
        return f"{self.what}; {self.but}"


@dataclass(slots=True)
class LastWord:
    """The service's absence, and how the node ends if that lasts."""

    node: str
    policy: Policy
    unheard_since: float | None = None
    """When the service was lost; None while one is heard."""
    agreed: str = ""
    """How the job has ended, as all ranks of a generation have agreed; empty before."""
    own: OwnEnd | None = None
    """None while there is something left to do, or for others to decide."""
    _since: float = 0.0
    """When `own` became true."""
    _told: OwnEnd | None = None
    """What the person who watches was last told that the node waits with."""

    @property
    def unheard(self) -> bool:
        """Whether no service is heard."""
        return self.unheard_since is not None

    @property
    def pending(self) -> OwnEnd | None:
        """The end that comes by itself as things are."""
        return self.own if self.own is not None and (self.own.certain or self.unheard) else None

    def lost(self, now: float) -> None:
        """No service is heard any more."""
        if self.unheard_since is None:
            self.unheard_since = now

    def back(self) -> None:
        """One is heard again."""
        self.unheard_since = None

    # What the node waits with

    def all_done(self, status: str, now: float) -> None:
        """All ranks of the generation have agreed that they are done. That is final."""
        self.agreed = status
        self._wait_with(
            OwnEnd(
                code=EXIT_COMPLETED,
                status=status,
                what="all ranks are done and know it of each other",
                but=NO_ANSWER,
                patience=self.policy.last_word_seconds,
                whole=True,
                certain=True,
            ),
            now,
        )

    def node_done(self, status: str, now: float) -> None:
        """The ranks of this node have ended well; of the others nothing is known."""
        self._wait_with(
            OwnEnd(
                code=EXIT_COMPLETED,
                status=status,
                what=f"the ranks of node {self.node} have ended well",
                but=f"{NO_ANSWER}, so that how the other nodes end is not known here",
                patience=self.policy.last_word_seconds + OTHERS_SECONDS,
            ),
            now,
        )

    def all_stopped(self, reason: str, now: float) -> None:
        """All ranks have saved and left, because one node heard that the job stops."""
        self._wait_with(
            OwnEnd(
                code=EXIT_DRAINED,
                status="stopped",
                what=reason,
                but=NO_ANSWER,
                patience=self.policy.last_word_seconds,
                whole=True,
                certain=True,
                save=True,
            ),
            now,
        )

    def failed(self, how: Exit | None, restarts: int, reason: str, now: float) -> None:
        """A rank has failed (`how` is None for one that hung), after so many restarts of the job.

        A script's generation is over with that. Loop workers wait for another as long as it takes,
        with their state, unless the service could do nothing but end the job: a kill from outside
        mostly does not count against it, and when it does, that is for the service to know.
        """
        script = not self.policy.persistent
        counts = script or how is None or how.signal not in FROM_OUTSIDE
        if counts and restarts >= self.policy.max_restarts:
            patience = self.policy.last_word_seconds
        elif script:
            patience = self.policy.restart_seconds
        else:
            return
        self._wait_with(
            OwnEnd(
                code=EXIT_FAILED,
                status="failed",
                what=reason,
                but=f"{NO_ANSWER}, which could have begun another generation",
                patience=patience,
                whole=True,
            ),
            now,
        )

    def run_done(self, status: str, reason: str) -> None:
        """The other nodes' ends are known too: what was this node's end is the run's."""
        assert self.own is not None
        self.own = replace(self.own, status=status, what=reason, but=NO_ANSWER, whole=True)

    def goes_on(self) -> None:
        """There is something to do again, unless all ranks were done."""
        if not self.agreed:
            self.own = None

    def _wait_with(self, own: OwnEnd, now: float) -> None:
        self.own, self._since = own, now

    # What comes of it

    def deadline(self) -> float | None:
        """When the node ends by itself; None where it doesn't."""
        if (own := self.pending) is None:
            return None
        since = self._since
        if not own.certain and self.unheard_since is not None:
            since = max(since, self.unheard_since)
        return since + own.patience

    def due(self, now: float) -> OwnEnd | None:
        """How the node ends by itself now."""
        deadline = self.deadline()
        return self.own if deadline is not None and now >= deadline else None

    def notice(self) -> str:
        """What to say of the waiting; empty where that was said, or nothing is waited for."""
        if self.own is None or self.own is self._told or not self.unheard:
            return ""
        self._told = self.own
        seconds = f"{self.own.patience:.0f} s"
        return f"{self.own.what}; waiting up to {seconds} for the rendezvous service to hear of it"
