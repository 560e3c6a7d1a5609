"""What became of the states that this rank has staged to be saved, as its agent says.

The agent writes them, beside the training. A rank asks at the end alone: the run is over once all
that was to be saved is.
"""

from __future__ import annotations

import threading


class SaveReports:
    """Filled by the thread that hears the agent, asked by the one that trains."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._whole: dict[int, bool] = {}
        """By version: whether this rank's part is written, and at the committing rank committed."""

    def heard(self, version: int, *, whole: bool) -> None:
        """The agent is done with that version."""
        with self._changed:
            self._whole[version] = whole
            self._changed.notify_all()

    def wait(self, version: int, timeout: float) -> bool | None:
        """Whether it is saved; None where nothing is heard of it within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: version in self._whole, timeout)
            return self._whole.get(version)
