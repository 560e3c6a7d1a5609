"""What is said where a process can't be started."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.agent import shortage
from trainer.agent.output import ConsoleWriter, Pump
from trainer.console import console


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.EMFILE, "ulimit -n"), (errno.EAGAIN, "ulimit -u"), (errno.ENOMEM, "no memory left")],
)
def test_the_reason_and_its_mend(number: int, mend: str) -> None:
    told = shortage.told(OSError(number, os.strerror(number)))
    assert told.startswith(f"it can't be started: {os.strerror(number)}; ")
    assert mend in told


def test_a_reason_that_nobody_has_thought_of_stands_alone() -> None:
    assert shortage.told(OSError(errno.ENOEXEC, "x")).endswith(os.strerror(errno.ENOEXEC))
    assert shortage.told(OSError("just so")).endswith("just so")


@pytest.fixture
def spare() -> Iterator[int]:
    """So many descriptors may still be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, before[1]))
    filled: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            filled.append(os.open("/dev/null", os.O_RDONLY))
    for descriptor in filled[-3:]:
        os.close(descriptor)
    yield 3
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for descriptor in filled[:-3]:
        os.close(descriptor)


def test_half_of_the_pipes_are_closed_where_there_is_no_room_for_the_other(spare: int) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        Pump(ConsoleWriter(console()))
    again = [os.open("/dev/null", os.O_RDONLY) for _ in range(spare)]
    for descriptor in again:
        os.close(descriptor)
