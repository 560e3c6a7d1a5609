"""Who of a script's processes is to hear a signal that asks it to leave.

People set a handler to save before they go, and the save needs what the script has started: a
DataLoader whose workers got the same SIGTERM breaks off in the middle of the step that the handler
lets end. So who has a handler hears the signal alone, and answers for its children; those who are
still there at the deadline are killed. Whoever has none ends of it, its children with it, as under
torchrun. A shell has a handler only for its own sake: what it runs does the work, and hears it too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "busybox"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """One process of a group: its parent's pid, its program, the signals it has handlers for."""

    parent: int
    program: str
    handled: frozenset[int]


def audience(group: Mapping[int, Relative], number: int) -> set[int]:
    """The pids of those that are to hear signal `number`. Pure.

    Who has no parent in the group stands for itself: its root, and what outlived its parent.
    """
    children: dict[int, list[int]] = {}
    for pid, one in group.items():
        children.setdefault(one.parent, []).append(pid)
    hears: set[int] = set()
    waiting = [pid for pid, one in group.items() if one.parent not in group]
    while waiting:
        pid = waiting.pop()
        hears.add(pid)
        if number not in group[pid].handled or group[pid].program in SHELLS:
            waiting += children.get(pid, ())
    return hears


def relatives(group: int) -> dict[int, Relative]:
    """The processes of a group, by pid, as they are just now; without those that have ended.

    Raises OSError where there is no descriptor to look at them.
    """
    found = {}
    for pid in _pids():
        try:
            # The name, in parentheses, may hold anything: what follows its end has one form.
            state, parent, its_group = _read(pid, "stat").rpartition(")")[2].split()[:3]
            if int(its_group) != group or state in "ZX":
                continue
            fields = dict(line.split(":", 1) for line in _read(pid, "status").splitlines())
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            continue  # it has just ended
        found[pid] = Relative(
            parent=int(parent),
            program=_program(pid),
            handled=frozenset(_numbers(int(fields["SigCgt"], 16))),
        )
    return found


def _pids() -> Iterable[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")


def _program(pid: int) -> str:
    """The file that it runs; for a script, its interpreter's. Empty where we may not know."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def _numbers(mask: int) -> Iterator[int]:
    """The signals of a mask as the kernel writes it: bit 0 is signal 1."""
    return (bit + 1 for bit in range(mask.bit_length()) if mask >> bit & 1)
