"""The socket on which a generation's store will be served, one for each generation."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

from trainer.address import is_loopback, join_endpoint, listening_place, own_address

BACKLOG = 4096
ATTEMPTS = 64
LOWEST_PORT, HIGHEST_PORT = 20000, 65535
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class StoreSocket:
    """Bound to a port of its own; `endpoint` is what the others dial."""

    def __init__(self, host: str, *, listen: bool, port: int = 0) -> None:
        """`listen`: a worker gets the descriptor, and early clients wait in the backlog.

        Otherwise the port is only kept for a script that binds it by itself: it is chosen where
        the kernel does not take ports for outgoing connections, so that it stays free between
        `release` and the script's bind. Raises OSError when nothing can be bound.
        """
        if listen or is_loopback(host):
            family, place = listening_place(host, port)
        else:
            # The script itself is going to listen on all addresses: the port has to be free there.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            place = ("", port)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if listen or port:
                self.socket.bind(place)
            else:
                _bind_outside_ephemeral(self.socket, place)
            if listen:
                self.socket.listen(BACKLOG)
        except OSError:
            self.socket.close()
            raise
        self.host = host
        self.port = int(self.socket.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return join_endpoint(self.host, self.port)

    def release(self) -> None:
        """Give up our hold; a worker that got the descriptor keeps its own."""
        self.socket.close()


def address_towards(endpoint: str) -> str:
    """The address of this machine that others reached at `endpoint` can dial, or else its name."""
    with contextlib.suppress(OSError):
        return own_address(endpoint)
    return socket.gethostname()


def _bind_outside_ephemeral(target: socket.socket, place: tuple[Any, ...]) -> None:
    host, _port, *scope = place
    try:
        low, high = (int(word) for word in EPHEMERAL_RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    ports = [*range(LOWEST_PORT, min(low, HIGHEST_PORT)), *range(high + 1, HIGHEST_PORT + 1)]
    for port in random.sample(ports, min(ATTEMPTS, len(ports))):
        with contextlib.suppress(OSError):
            target.bind((host, port, *scope))
            return
    target.bind((host, 0, *scope))
