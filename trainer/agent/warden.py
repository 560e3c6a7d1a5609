"""Run as a script, `python -I -S warden.py MARK`: outlives the agent and cleans up after it.

Reads lines from stdin: `+PGID`, `-PGID`, `bye`. When stdin ends without `bye`, the agent was
killed: every group still listed is killed, and so is each process whose environment carries
MARK (`REMESH_AGENT=…`), which finds workers' children that made a session of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

ROUNDS = 5


def bearers(mark: bytes) -> list[int]:
    """Pids of other processes whose environment holds `mark` as one whole entry."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - this script imports next to nothing
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def main() -> None:
    """Returns when the agent has said goodbye or everything of it is dead."""
    mark = os.fsencode(sys.argv[1])
    groups: set[int] = set()
    for line in sys.stdin:
        word = line.strip()
        if word == "bye":
            return
        if word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(ROUNDS):
        pids = bearers(mark)
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            return


if __name__ == "__main__":
    main()
