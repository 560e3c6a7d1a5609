"""Processes that end before they are ready: whether to try again, and what to say of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.agent.process import Exit

HOPELESS_STARTS = 3
"""So many in a row, whatever the errors: each costs the imports, and nothing is learned by more."""
SLOW_START_SECONDS = 60.0
"""Imports take seconds; a slow file system makes it many."""
NEVER_CALLED = (
    "the script ended and has not called trainer.elastic; call it as the last thing the script "
    "does, or run the script without --elastic (entrypoint.elastic: false)"
)


@dataclass(slots=True)
class Starts:
    """The starts of one node's `slots` that failed since a process last became ready.

    `own`: what is started is a program of the user's.
    """

    slots: int
    own: bool
    _count: int = 0
    _errors: dict[int, str] = field(default_factory=dict)
    """By local rank, the fingerprint of the last one's error; empty where it may pass."""
    _told: set[str] = field(default_factory=set)
    """What was said already, ever."""

    def one_is_ready(self) -> None:
        """A process has come through."""
        self._count = 0
        self._errors.clear()

    def failed(self, local_rank: int, how: Exit, said: str, error: str) -> str:
        """Why there is no point in another start; empty while there may be one."""
        if how.ok and self.own:
            return NEVER_CALLED
        self._count += 1
        self._errors[local_rank] = error
        what = self._describe(how, said)
        if error and len(self._errors) == self.slots and set(self._errors.values()) == {error}:
            return what
        if self._count >= HOPELESS_STARTS:
            return f"{what}; that was start {self._count} in a row to fail"
        return ""

    def retry(self, how: Exit, said: str) -> str:
        """What to show of a start that is tried again; empty when it was shown before."""
        return self._once(f"{self._describe(how, said)}; trying again")

    def standby(self, how: Exit, said: str) -> str:
        """The same of a standby, which is missed only when a worker dies."""
        why = f": {said}" if said else ""
        return self._once(
            f"a standby ended before it was ready ({how}){why}; this generation goes on without"
        )

    def slow(self) -> str:
        """What to show when none is ready after SLOW_START_SECONDS."""
        waited = f"no worker of this node is ready after {SLOW_START_SECONDS:.0f} s"
        if self.own:
            waited += "; with --elastic a script has to call trainer.elastic"
        return waited

    def _describe(self, how: Exit, said: str) -> str:
        where = "before they call trainer.elastic" if self.own else "before they are ready"
        return f"workers end {where} ({how})" + (f": {said}" if said else "")

    def _once(self, text: str) -> str:
        if text in self._told:
            return ""
        self._told.add(text)
        return text
