"""What this node is called."""

from __future__ import annotations

import socket

from trainer.errors import JobError
from trainer.names import NODE, named


def _host() -> str:
    try:
        return named(NODE, socket.gethostname(), given="this host's name")
    except ValueError as error:
        raise JobError(f"{error}; give another with --node NAME") from error


class NodeName:
    """What `--node` says; else the host's name, numbered where agents of a run share a machine.

    Stable over restarts of the agent, so that a node that keeps failing can be told from a new
    one. Held until `release` by a socket in the abstract namespace. Raises JobError where this
    host's name can't name a node.
    """

    def __init__(self, run_id: str, wanted: str | None) -> None:
        self._hold: socket.socket | None = None
        self.name = wanted or self._first_free(run_id, _host())

    def release(self) -> None:
        """Let another agent have it."""
        if self._hold is not None:
            self._hold.close()

    def _first_free(self, run_id: str, host: str) -> str:
        number = 0
        while True:
            name = f"{host}-{number}" if number else host
            hold = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # Linux cuts addresses at 107 bytes.
                hold.bind(b"\0remesh:" + f"{name}:{run_id}".encode()[-90:])
            except OSError:
                hold.close()
                number += 1
                continue
            self._hold = hold
            return name
