"""What the log says of nodes that are not taken in. Pure.

Who is refused asks again twice a second, and strangers may ask for anything: so the same is said
once a minute, and no more than a few lines of all kinds in that time. The others are counted.
"""

from __future__ import annotations

from rendezvous.complaints import AGAIN

MOST = 20
"""Different lines in AGAIN seconds: enough for an operator, too few to fill a disk."""


class Refusals:
    """`now` is of any clock that does not go back."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], float] = {}
        """When which job's refusal for which reason was said, within the last AGAIN seconds."""
        self._untold = 0
        """Refusals since the last line that had none of their own."""

    def line(self, run_id: str, node: str, reason: str, now: float) -> str:
        """What to say of this one; empty for nothing. Without a job it is a stranger's."""
        self._said = {what: at for what, at in self._said.items() if now - at < AGAIN}
        if (run_id, reason) in self._said or len(self._said) >= MOST:
            self._untold += 1
            return ""
        self._said[run_id, reason] = now
        untold, self._untold = self._untold, 0
        more = f" (since the last such line {untold} more refusals)" if untold else ""
        who = f"job {run_id}: node {node}" if run_id else "a stranger"
        return f"{who} is refused: {reason}{more}"
