"""Run as a script, `python -I -S leash.py AGENT_PID NICE COMMAND…`: become COMMAND, tied to
the agent and with priority NICE, which the agent may have raised for itself.

The kernel kills this process when the agent's thread that started it ends, also by SIGKILL.
The agent may have ended before the tie was made, so the parent is looked at afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
COMMAND_NOT_FOUND = 127


def main() -> None:
    """Never returns: either the command runs in this process, or the process ends."""
    agent = int(sys.argv[1])
    command = sys.argv[3:]
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[2]))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent:
        os._exit(128 + signal.SIGKILL)
    # Python ignores these for itself, and what is ignored stays so in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"remesh: {command[0]} can't be run: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(COMMAND_NOT_FOUND)


if __name__ == "__main__":
    main()
