"""What this node is called."""

from __future__ import annotations

import socket


class NodeName:
    """The host's name, numbered where several agents of one run share a machine.

    Stable over restarts of the agent, so that a node that keeps failing can be told from a new
    one. Held until `release` by a socket in the abstract namespace.
    """

    def __init__(self, run_id: str, wanted: str | None) -> None:
        self._hold: socket.socket | None = None
        self.name = wanted or self._first_free(run_id, socket.gethostname())

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
