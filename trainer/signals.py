"""How this process hears the signals that mean `leave`, and keeps them from its children.

A platform sends SIGTERM when it likes: while Python still imports, in the middle of the last save,
after everything is done. So one listener stands from the command's first line to its last. What it
hears before there is an agent waits for it; what it hears after the end changes nothing.

It imports next to nothing: until it stands, a signal ends the process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Those that mean `leave` unless the user chooses others; torchrun's."""
SIGNALS_VARIABLE = "REMESH_SIGNALS"
"""The numbers of the signals that a loop worker leaves to its agent; trainer/worker/signals.py."""
DUMP_SIGNAL = signal.SIGRTMIN + 5
"""Has a loop worker write its stacks. No platform sends it, as some do SIGUSR1 and SIGUSR2."""

Hear = Callable[[int, float], object]
"""Called with a signal's number and when it came, in seconds of the monotonic clock."""


class LeftEarly(KeyboardInterrupt):
    """A signal came before anything was started that would have to be ended in order."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal_name(number)} before anything was started")


def signal_name(number: int | None) -> str:
    """`9` → `SIGKILL`; numbers without a name stay numbers."""
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return str(number)


@contextmanager
def withheld(numbers: Collection[int]) -> Iterator[None]:
    """Whatever this thread starts within is born with these signals blocked.

    A mask outlives fork and exec, so that there is no moment at which one of them would end the
    child. Meanwhile they reach another thread of this process, or wait.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SignalListener:
    """All of a process, as the handlers of signals are. Use it from the main thread."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        """The handlers that stood before ours, by the signal's number."""
        self._waiting: list[tuple[int, float]] = []
        """What was heard while nobody was attached: number and time."""
        self._hear: Hear | None = None
        """Who is told of a signal the moment it comes."""
        self._raises = False
        """Whether a signal that nobody is told of ends what is going on."""

    def listen(self, numbers: Collection[int], *, raises: bool = False) -> list[int]:
        """Hear these from now on, and no others. Returns those that will not be heard.

        These are the ones that were ignored when the process began, as SIGHUP is under nohup:
        they stay ignored. One that is no longer to be heard, and has been, has its way now.

        With `raises` a signal raises LeftEarly, wherever the main thread is. Without, it waits for
        who attaches; and what came before, and was lost in the middle of an import, raises here.
        """
        for number in [number for number in self._before if number not in numbers]:
            signal.signal(number, self._before.pop(number))
            if any(heard == number for heard, _ in self._waiting):
                os.kill(os.getpid(), number)
        ignored = []
        for number in numbers:
            if number in self._before:
                continue
            if signal.getsignal(number) is signal.SIG_IGN:
                ignored.append(number)
            else:
                self._before[number] = signal.signal(number, self._on_signal)
        self._raises = raises
        if not raises and self._waiting:
            raise LeftEarly(self._waiting[0][0])
        return ignored

    def attach(self, hear: Hear) -> None:
        """Tell `hear` of every signal, first of those that have come already.

        It is called between any two instructions of the main thread, so it must do very little.
        """
        self._hear = hear
        waiting, self._waiting = self._waiting, []
        for number, at in waiting:
            hear(number, at)

    def detach(self) -> None:
        """Tell nobody any more."""
        self._hear = None

    def close(self, *, for_good: bool) -> None:
        """How the process ends is decided. `for_good`: and it does now, whatever comes.

        Otherwise the signals are given back to who handled them before.
        """
        self._hear, self._raises = None, False
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if for_good else before)
        self._before.clear()
        self._waiting.clear()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        at = time.monotonic()
        if self._hear is not None:
            self._hear(number, at)
            return
        self._waiting.append((number, at))
        if self._raises:
            self._raises = False  # Once: whoever catches it has something to say.
            raise LeftEarly(number)


LISTENER = SignalListener()
"""The one of this process. It hears nothing until it is told to listen."""
