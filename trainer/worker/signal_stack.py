"""Room for several signals at once on the stack that faulthandler gives the main thread.

Python's handlers run on that stack where there is one, and different signals that come together
nest on it. faulthandler's holds four; a fifth is written over whatever lies beside it, and the
process crashes some time later (seen with Python 3.11 to 3.13). A burst of signals to every process
of a run must not do that to a worker.
"""

from __future__ import annotations

import ctypes
import mmap

STACK_BYTES = 1 << 20
"""Every signal there is at once, at some 16 KB each on processors with large registers."""


class _Stack(ctypes.Structure):
    """The kernel's stack_t."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def widen() -> None:
    """Give this thread a stack for signals that is large enough. Raises OSError."""
    memory = mmap.mmap(-1, STACK_BYTES)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    stack = _Stack(start=start, flags=0, size=STACK_BYTES)
    if ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None):
        number = ctypes.get_errno()
        raise OSError(number, "no stack for signals")
    _kept.append(memory)


_kept: list[mmap.mmap] = []
"""The stacks that the kernel was given: it uses them as long as the thread lives."""
