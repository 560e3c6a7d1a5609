"""What can't be started or opened for want of descriptors, memory or processes. Pure."""

from __future__ import annotations

import errno
import os

PAUSE_SECONDS = 1.0
"""Before a start that failed counts as failed, and the next is tried: there may be enough again."""

_MENDS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has no open files left (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or the container's)",
    errno.E2BIG: "its arguments or environment variables are too long: put what they say in a file",
    errno.ENOMEM: "there is no memory left on this machine",
}


def told(error: OSError) -> str:
    """The reason in words, and what mends it where that is known."""
    why = os.strerror(error.errno) if error.errno else str(error)
    known = mend(error)
    return f"it can't be started: {why}" + (f"; {known}" if known else "")


def mend(error: OSError) -> str:
    """What mends it; empty where it is no shortage."""
    return _MENDS.get(error.errno or 0, "")
