"""host:port, as all of ours write it, read it and listen on it. Imports no torch.

An IPv6 address stands in brackets there, and only there: what is dialled is what is within them.
`trainer.address` is the same file by a link, as a worker needs nothing of the control plane.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import Any

from .outside.echo import shown

PORT_DIGITS = 5
"""Of the largest port: more are not worth reading."""
Place = tuple[int, tuple[Any, ...]]
"""A family of addresses, and one of them as `socket.bind` takes it."""


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises ValueError for anything else."""
    host, separator, port = endpoint.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS):
        raise ValueError(f"{shown(endpoint)} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_endpoint(host: str, port: int) -> str:
    """`host:port`, and `[v6]:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_address(endpoint: str) -> str:
    """The address of this machine that others reached at `endpoint` can dial; no packet is sent.

    Raises OSError where no address of `endpoint` can be reached.
    """
    host, port = split_endpoint(endpoint)
    failed: OSError | None = None
    for family, kind, protocol, _name, there in socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM
    ):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(there)
                return str(probe.getsockname()[0])
        except OSError as error:
            # A name may have addresses of a kind that this machine has no way to.
            failed = error
    raise failed or OSError(f"{endpoint} has no address")


def listening_place(host: str, port: int) -> Place:
    """Where to listen so that others reach it at `host`, and on no address besides.

    A name may mean another address to others than to this machine, whose own name is often one of
    its loopback; so a name counts only if it means one address, that is none of the loopback's.
    Otherwise all addresses are listened on. Raises OSError for what can't be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = list(dict.fromkeys((int(entry[0]), entry[4]) for entry in found))
    if host == "localhost" or is_address(host):
        return places[0]
    if len(places) == 1 and not is_loopback(str(places[0][1][0])):
        return places[0]
    return int(socket.AF_INET), ("", port)


def is_address(host: str) -> bool:
    """Whether it is written in numbers."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; a name may be anybody's."""
    if host == "localhost":
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback
