"""Starting, watching and ending one worker process and everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.agent import leash, warden
from trainer.agent.audience import audience, relatives
from trainer.signals import SIGNALS_VARIABLE, signal_name, withheld
from trainer.supervision import Failed, guarded

log = logging.getLogger(__name__)

AGENT_VARIABLE = "REMESH_AGENT"
AGENT_NICE = -10
SENT_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals of which a process's last lines say nothing; the others it brings on itself."""
SIGNAL_EXIT_BASE = 128
"""A shell whose command ended of signal n ends with this and n."""
_LEASH = (sys.executable, "-I", "-S", str(Path(leash.__file__)))
_WORKERS_NICE = os.getpriority(os.PRIO_PROCESS, 0)


def close_to_strangers() -> None:
    """What we write ourselves is for no other user to change, also under a umask of 0.

    What workers of the user's write is as the user's own umask has it.
    """
    os.umask(_WORKERS_UMASK | stat.S_IWOTH)


def precede_workers() -> None:
    """Run before our workers wherever we may: a late beat costs more than a late step."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(_WORKERS_NICE, AGENT_NICE))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_WORKERS_UMASK = _umask()
"""As the user has it; taken before this process changes its own."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by itself with `code`, or by `signal`."""

    code: int | None
    signal: int | None

    @classmethod
    def of(cls, returncode: int) -> Exit:
        """From `subprocess`'s number, where a signal is negative."""
        return cls(None, -returncode) if returncode < 0 else cls(returncode, None)

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def by_others(self) -> bool:
        """Whether it was most likely ended from outside."""
        return self.signal in SENT_BY_OTHERS

    def __str__(self) -> str:
        return f"signal {signal_name(self.signal)}" if self.signal else f"exit code {self.code}"


class Process:
    """A child in a session of its own. Must be made in the agent's main thread: the child's
    life is tied to the thread that started it. `leaves`: signals that it is to leave to us."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stdout: int,
        stderr: int,
        channel: socket.socket | None = None,
        leaves: Collection[int] = (),
    ) -> None:
        """Raises OSError when no process can be made."""
        told = {SIGNALS_VARIABLE: " ".join(map(str, leaves))} if leaves else {}
        with withheld(leaves):
            self._child = subprocess.Popen(
                [*_LEASH, str(os.getpid()), str(_WORKERS_NICE), *argv],
                env={**env, **told},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=() if channel is None else (channel.fileno(),),
                start_new_session=True,
                umask=_WORKERS_UMASK,
            )
        self.pid = self._child.pid
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except OSError:
            # It can't be watched, and is no use to anybody.
            self._child.kill()
            self._child.wait()
            raise

    def watch(self, ended: Callable[[Exit], None], *, failed: Failed) -> None:
        """Call `ended` once in the running loop when the process has ended.

        What is left of its process group is killed before the process is reaped, so that the
        group's number can't have gone to somebody else.
        """
        loop = asyncio.get_running_loop()

        def reap() -> None:
            loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.signal_group(signal.SIGKILL)
            ended(Exit.of(self._child.wait()))

        loop.add_reader(self._descriptor, guarded(reap, name="the end of a worker", failed=failed))

    def ask_to_leave(self, number: int) -> None:
        """Signal those of its group that are to hear it; see trainer/agent/audience.py."""
        if self._child.returncode is not None:
            return
        try:
            group = relatives(self.pid)
        except OSError as error:
            # They can't be told apart without a descriptor to look at them: all of them hear it.
            log.warning("the processes of %d can't be looked at: %s", self.pid, error)
            group = {}
        hears = audience(group, number)
        if hears == group.keys():
            self.signal_group(number)
            return
        for pid in hears:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def signal_group(self, number: int) -> None:
        """Signal the process and all that stayed in its group; nothing when it was reaped."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def signal(self, number: int) -> None:
        """Signal the process alone."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def background(self, on: bool) -> None:
        """Run only when nothing else wants the processor, where the way back is open to us."""
        if os.geteuid() != 0:
            return
        policy = os.SCHED_IDLE if on else os.SCHED_OTHER
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208
                os.sched_setscheduler(int(task), policy, os.sched_param(0))


class Warden:
    """The agent's end of the process that cleans up when the agent is killed."""

    def __init__(self, leaves: Collection[int]) -> None:
        """`leaves`: signals that it is to leave to us."""
        self.mark = uuid.uuid4().hex
        with withheld(leaves):
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(Path(warden.__file__)),
                    f"{AGENT_VARIABLE}={self.mark}",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        """What every worker carries, so that the warden finds its children."""
        return {AGENT_VARIABLE: self.mark}

    def add(self, pid: int) -> None:
        """A process group to end with the agent."""
        self._say(f"+{pid}")

    def remove(self, pid: int) -> None:
        """The group is gone."""
        self._say(f"-{pid}")

    def close(self) -> None:
        """The agent ends in order and has ended its workers."""
        self._say("bye")
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.wait()

    def _say(self, word: str) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(word.encode() + b"\n")
            self._child.stdin.flush()
