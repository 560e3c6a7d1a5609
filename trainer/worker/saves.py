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
        self._errors: dict[int, str] = {}
        """By version: why this rank's part is not written, or at the committing rank the whole not
        committed; empty where it is."""

    def heard(self, version: int, error: str) -> None:
        """The agent is done with that version; `error` is empty where all went well."""
        with self._changed:
            self._errors[version] = error
            self._changed.notify_all()

    def wait(self, version: int, timeout: float) -> str | None:
        """What went wrong with it, empty for nothing; None where nothing is heard of it within
        `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: version in self._errors, timeout)
            return self._errors.get(version)
