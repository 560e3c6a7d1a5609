"""Room for several signals at once on the stack that faulthandler gives the main thread.

Python's handlers run on that stack where there is one, and different signals that come together
nest on it. faulthandler's holds four; a fifth is written over whatever lies beside it, and the
process crashes some time later (seen with Python 3.11 to 3.13). A burst of signals to every process
of a run must not do that to a worker.
"""

from __future__ import annotations

import ctypes

STACK_BYTES = 1 << 20
"""Every signal there is at once, at some 16 KB each on processors with large registers; memory is
used for as many as have come together."""


class _Stack(ctypes.Structure):
    """The kernel's stack_t."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def widen() -> None:
    """Give this thread a stack for signals that is large enough. Raises OSError, MemoryError."""
    library = ctypes.CDLL(None, use_errno=True)
    library.malloc.restype = ctypes.c_void_p
    # Never freed: signals come as long as the thread lives, and longer than Python's objects do.
    # A forked child must have it to itself, as it has all that malloc gives.
    start = library.malloc(ctypes.c_size_t(STACK_BYTES))
    if start is None:
        raise MemoryError("no stack for signals")
    stack = _Stack(start=start, flags=0, size=STACK_BYTES)
    if library.sigaltstack(ctypes.byref(stack), None):
        raise OSError(ctypes.get_errno(), "no stack for signals")
