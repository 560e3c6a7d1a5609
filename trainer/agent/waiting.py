"""What a node waits for, as the person who watches is told: once, and only where it lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.agent.record import Record
from trainer.supervision import Failed, call_later

NEVER_MET = "no rendezvous service answers"
NOTICE_SECONDS = 1.0
"""What is over sooner than this is not worth a line."""
REFUSED = "the rendezvous service refuses this node"
SERVICE_LOST = "the rendezvous service is out of reach"


class Waiting:
    """`endpoints` are the service's; `quiet` says whether nothing of this is to be shown any more;
    `failed` hears of a failure to show it."""

    def __init__(
        self,
        record: Record,
        endpoints: Sequence[str],
        *,
        quiet: Callable[[], bool],
        failed: Failed,
    ) -> None:
        self._record = record
        self._endpoints = endpoints
        self._quiet = quiet
        self._failed = failed
        self._text = ""
        """What is waited for, as it was last heard."""
        self._shown = ""
        """What of that was last shown."""
        self._met = True
        """Whether a service was ever there, when it was last lost."""
        self.refusal = ""
        """Why a service that answers does not want this node now."""

    def wait_for(self, text: str) -> None:
        """Shown once, and only when it is still so a moment later."""
        if text != self._text:
            self._text = text
            call_later(NOTICE_SECONDS, self._still, text, failed=self._failed)

    def refused(self, reason: str, *, trains: bool) -> None:
        """A service answers, and does not want this node now."""
        self.refusal = reason
        then = "its ranks go on, and it asks again" if trains else "it asks again"
        self.wait_for(f"{REFUSED}: {reason}; {then}")

    def over(self) -> None:
        """A generation has begun."""
        self._text = ""

    def service_lost(self, *, met: bool, trains: bool) -> None:
        """No service is heard. `met`: one was, before; `trains`: the ranks go on without it."""
        self._met = met
        if self._text.startswith(REFUSED):
            return  # it is not out of reach: its answer was no, and it hung up
        if not met:
            where = ", ".join(self._endpoints)
            self.wait_for(f"{NEVER_MET} at {where} yet; trying on")
            return
        self._record.event("rendezvous.lost")
        then = "the training goes on" if trains else "waiting for it"
        self.wait_for(f"{SERVICE_LOST}; {then}")

    def service_back(self) -> None:
        """One has taken this node in."""
        self.refusal = ""
        if self._met:
            self._record.event("rendezvous.back")
        if self._shown.startswith(SERVICE_LOST):
            self._record.notice("the rendezvous service is back")
        elif self._shown.startswith(NEVER_MET):
            self._record.notice("a rendezvous service answers now")
        elif self._shown.startswith(REFUSED):
            self._record.notice("the rendezvous service takes this node in now")
        self._text = self._shown = ""

    def _still(self, text: str) -> None:
        if text == self._text and not self._quiet():
            self._shown = text
            self._record.notice(text)
