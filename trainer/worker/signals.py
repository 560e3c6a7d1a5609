"""What a loop's process does about the signals that its agent handles: nothing.

Slurm, systemd, `timeout` and terminals send one signal to every process of a run. What it means
the agent decides, and tells its workers by their channel; a worker that ended of it would take
along what the agent is about to save.

The process is born with these signals blocked, and a job's keeps them so. In a loop of a user's own
they are let through, as soon as our package is imported in it, to a handler that does nothing: a
handler is all that a program started by the loop does not inherit, so that it gets signals as
anywhere else.

A forked child is a part of the loop: a DataLoader's worker, one of a pool. It too leaves the
signals to the agent, yet has to end when its own parent wants it to, for which torch and
multiprocessing send SIGTERM. So it keeps them blocked, and a thread takes them and looks who has
sent them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection
from types import FrameType

from trainer.signals import SIGNALS_VARIABLE
from trainer.supervision import logged, start_thread
from trainer.worker import signal_stack

_left: frozenset[int] = frozenset()
"""The signals that are the agent's; none in any process but a worker's."""


def leave_to_agent() -> None:
    """In a loop's process, once, before it starts others: signals are the agent's from here on.

    Does nothing in any other process, and in a thread that can't change handlers.
    """
    if SIGNALS_VARIABLE not in os.environ:
        return
    if threading.current_thread() is not threading.main_thread():
        return
    global _left
    # Taken out, so that no child takes itself for the worker.
    named = {int(word) for word in os.environ.pop(SIGNALS_VARIABLE).split()}
    # What was ignored when the agent began, as SIGHUP under nohup, stays ignored for all.
    numbers = {number for number in named if signal.getsignal(number) is not signal.SIG_IGN}
    for number in numbers:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _do_nothing)
            # Calls that wait within torch go on as if nothing had come.
            signal.siginterrupt(number, False)
    _guard_forks(numbers)
    signal_stack.widen()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, named)
    _left = frozenset(numbers)


def keep_from_programs() -> None:
    """In a job's process, before it has a second thread: the programs that it starts leave signals
    to the agent as well. They are compilers, and a step that waits for one is to end in order."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _left)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """The agent has got it, too."""


def _guard_forks(numbers: Collection[int]) -> None:
    masks = threading.local()

    def before() -> None:
        # Blocked already in the parent: a child that is ended as soon as it is born must hear it.
        masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def after_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

    def after_in_child() -> None:
        for number in numbers:
            if signal.getsignal(number) is _do_nothing:
                asks = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if asks else signal.SIG_DFL)
        # Without it the child still ends by what nobody can block.
        start_thread(_obey_parent, numbers, os.getppid(), name="signals", failed=logged)

    os.register_at_fork(
        before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
    )


def _obey_parent(numbers: Collection[int], parent: int) -> None:
    """Let through what `parent` sends; drop what comes from anybody else."""
    while True:
        heard = signal.sigwaitinfo(numbers)
        if heard.si_pid == parent:
            number = {heard.si_signo}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, number)
            signal.raise_signal(heard.si_signo)
            signal.pthread_sigmask(signal.SIG_BLOCK, number)
