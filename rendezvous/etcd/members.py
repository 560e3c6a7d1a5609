"""Where the members of a cluster say that they can be reached. Pure.

It is what each was told when it started, and may be wrong here: an address of another network, a
name that is known over there alone, the wildcard. So it is a list of places to look at, no more.
"""

from __future__ import annotations

from collections.abc import Iterable

from rendezvous.address import is_loopback, join_endpoint, split_endpoint
from rendezvous.wire import etcd_pb2 as wire

MOST = 32
"""Addresses that are looked at: a cluster has 3 or 5 members, with one or two each."""
WILDCARDS = ("", "0.0.0.0", "::")
"""Hosts to listen on, where nobody can be reached."""


def addresses(members: Iterable[wire.Member], *, tls: bool, teller: str) -> list[str]:
    """host:port of those that may be asked over the same kind of connection.

    `teller` is the endpoint that names them: only who is reached on this machine itself may name
    an address of this machine. Learners are left out, for they answer nobody.
    """
    here = is_loopback(split_endpoint(teller)[0])
    found: dict[str, None] = {}
    for member in members:
        for url in () if member.isLearner else member.clientURLs:
            scheme, _, rest = url.partition("://")
            if scheme != ("https" if tls else "http"):
                continue
            try:
                host, port = split_endpoint(rest.rstrip("/"))
            except ValueError:
                continue
            usable = host not in WILDCARDS and host.isprintable() and 0 < port < 65536
            if usable and (here or not is_loopback(host)):
                found[join_endpoint(host, port)] = None
    return list(found)[:MOST]
