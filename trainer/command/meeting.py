"""torchrun's line for one node: a c10d endpoint at which nobody but torchrun itself serves.

`--nnodes 1 --rdzv-backend c10d --rdzv-endpoint localhost:0`, as torchrun's documentation and
torchtitan's scripts have it, names a place on this very machine that torchrun opens. There is
nobody else to meet, so here the rendezvous is inside the agent, as where no endpoint is given.
"""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress

from trainer.address import split_endpoint

TORCHRUNS = ("c10d", "static")
"""torchrun's backends whose endpoint torchrun serves itself."""
ANSWER_SECONDS = 1.0
"""For a connection within one machine."""


def meets_nobody(parsed: argparse.Namespace) -> bool:
    """Whether the endpoint that was given is one that torchrun would serve, for this node alone.

    Asks whether somebody listens there: then it is a service that the user has started.
    """
    if parsed.rdzv_backend not in TORCHRUNS or not parsed.rdzv_endpoint:
        return False
    if (parsed.nnodes or "1").rpartition(":")[2] != "1" or "," in parsed.rdzv_endpoint:
        return False
    try:
        host, port = split_endpoint(parsed.rdzv_endpoint.strip())
    except ValueError:
        return False
    if not _is_ours(host):
        return False
    return port == 0 or not _answers(host, port)


def _is_ours(host: str) -> bool:
    with suppress(OSError):
        for family, kind, protocol, _name, address in socket.getaddrinfo(
            host, 0, type=socket.SOCK_DGRAM
        ):
            with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
    return False


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=ANSWER_SECONDS):
        return True
    return False
