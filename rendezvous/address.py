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


def parse_endpoints(text: str, *, port: int) -> list[str]:
    """`a:2379,b,[::1]:2379,fd00::1` as a list of host:port; `port` is for those that say none.

    A comma or a slash may be behind the last. An IPv6 address without brackets is a whole one, so
    it has no port. Raises ValueError, which names the part that is none.
    """
    return [_endpoint(part.strip(), port) for part in text.rstrip("/ ").rstrip(", ").split(",")]


def _endpoint(word: str, port: int) -> str:
    wrong = f"{shown(word)} is not HOST:PORT"
    if "://" in word:
        raise ValueError(
            f"{wrong}: leave the scheme out (etcds:// before the whole list is etcd over TLS)"
        )
    if is_address(word.removeprefix("[").removesuffix("]")):
        return join_endpoint(word.removeprefix("[").removesuffix("]"), port)
    try:
        host, number = split_endpoint(word if ":" in word else f"{word}:{port}")
    except ValueError:
        raise ValueError(wrong) from None
    if not 0 < number < 65536:
        raise ValueError(f"{wrong}: a port is 1 to 65535")
    if ":" in host and not is_address(host):
        raise ValueError(f"{wrong} (an IPv6 address is [ADDRESS]:PORT)")
    if not host or "/" in host or not host.isprintable() or " " in host:
        raise ValueError(wrong)
    return join_endpoint(host, number)


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
