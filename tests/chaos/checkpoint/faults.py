"""A layer of faults under a process's file operations: the nth one fails, or is the last."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.checkpoint import store

OPERATIONS = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "close",
    "mkdir",
    "rename",
    "link",
    "unlink",
    "rmdir",
)
FINISHED, SURVIVED = 0, 4
"""How a child ends that did all it was to do: without a fault, and in spite of one."""


class Faults:
    """Counts this process's operations; at the `at`th, `strike` is called before it is done."""

    def __init__(self, at: int, strike: Callable[[str], None]) -> None:
        self._at = at
        self._strike = strike
        self.count = 0

    @property
    def struck(self) -> bool:
        return self.count >= self._at

    def install(self) -> None:
        """For good: use it in a process that ends soon."""
        for name in OPERATIONS:
            setattr(os, name, self._around(name, getattr(os, name)))
        store.rename_new = self._around("rename_new", store.rename_new)

    def _around(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._at:
                if name in ("write", "pwrite") and len(arguments[1]) > 1:
                    data = memoryview(arguments[1])
                    operation(arguments[0], data[: len(data) // 2], *arguments[2:])
                self._strike(name)
            return operation(*arguments, **options)

        return act


def kill(_operation: str) -> None:
    """The process is gone, with nothing said and nothing put right."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(operation: str) -> None:
    """The disk is full."""
    if operation not in ("close", "unlink", "rmdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_child(act: Callable[[], None], faults: Faults) -> int:
    """Run it in a forked process with the faults; its exit status, or minus its signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            faults.install()
            act()
            code = SURVIVED if faults.struck else FINISHED
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def settled(directory: Path) -> list[Path]:
    """The data files there are."""
    return sorted(directory.glob("data/*/*.safetensors"))
