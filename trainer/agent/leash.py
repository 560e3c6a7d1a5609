"""Run as a script, `python -I -S leash.py AGENT_PID NICE COMMAND…`: become COMMAND, tied to
the agent and with priority NICE, which the agent may have raised for itself.

The kernel kills this process when the agent's thread that started it ends, also by SIGKILL.
The agent may have ended before the tie was made, so the parent is looked at afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
COMMAND_NOT_FOUND = 127
ERROR_FILE_VARIABLE = "TORCHELASTIC_ERROR_FILE"
"""Where a script's error is read from; a loop's is in its output."""
MENDS = {
    errno.ENOENT: "it is not there, or what its first line (#!) names is not",
    errno.EACCES: "make it executable (chmod +x), on a file system that is not mounted noexec",
    errno.ENOEXEC: "give it a first line such as #!/bin/sh, or a program built for this machine",
}


def leave_word(path: str, told: str) -> None:
    """In the form in which torch's scripts leave theirs. Raises OSError."""
    # Loaded by those only that need it: each rank's start comes through here.
    import json
    from pathlib import Path

    Path(path).write_text(json.dumps({"message": told}), encoding="utf-8")


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
        mend = MENDS.get(error.errno or 0, "")
        told = f"{command[0]} can't be run: {error.strerror}{f'; {mend}' if mend else ''}"
        sys.stderr.write(f"remesh: {told}\n")
        sys.stderr.flush()
        with contextlib.suppress(KeyError, OSError):
            leave_word(os.environ[ERROR_FILE_VARIABLE], told)
        os._exit(COMMAND_NOT_FOUND)


if __name__ == "__main__":
    main()
