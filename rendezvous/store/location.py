"""Where a store is, as one word: `memory`, or `etcd://host:port,host:port`.

`etcds://` is etcd over TLS. `?learn=0` behind the list keeps to it: other members that the cluster
names are not used, as where the way to it leads through proxies.
"""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous import address
from rendezvous.errors import ConfigurationError
from rendezvous.etcd import Access, Deadlines, EtcdClient
from rendezvous.outside.echo import shown
from rendezvous.store.memory import MemoryStore
from rendezvous.store.port import Store

ETCD_PORT = 2379
SWITCH = {"0": False, "1": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdLocation:
    """Where an etcd cluster is."""

    endpoints: list[str]
    """host:port of some of its members."""
    tls: bool
    learn: bool
    """Whether to use other members that it names."""


def open_store(
    location: str, *, access: Access | None = None, deadlines: Deadlines | None = None
) -> Store:
    """The store at `location`; nothing is dialled before its first use.

    Call it in a running event loop. Raises ConfigurationError for what is not a location.
    """
    if location == "memory":
        return MemoryStore()
    etcd = parse_etcd(location)
    access = access or Access(tls=etcd.tls)
    return EtcdClient(etcd.endpoints, access=access, deadlines=deadlines, learn=etcd.learn)


def parse_etcd(location: str) -> EtcdLocation:
    """`etcd://host:port,host:port` in parts. Raises ConfigurationError."""
    scheme, separator, rest = location.partition("://")
    listed, _, query = rest.partition("?")
    if scheme not in ("etcd", "etcds") or not separator or not listed.strip(",/ "):
        raise ConfigurationError(
            f"{shown(location)} is not a store: say `memory`, or `etcd://HOST:PORT,HOST:PORT`"
        )
    learn = True
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key != "learn" or value not in SWITCH:
            raise ConfigurationError(f"{shown(part)} behind the endpoints: there is learn=0 alone")
        learn = SWITCH[value]
    return EtcdLocation(endpoints=parse_endpoints(listed), tls=scheme == "etcds", learn=learn)


def parse_endpoints(text: str, *, port: int = ETCD_PORT) -> list[str]:
    """`a:2379,b,[::1]:2379` as a list of host:port. Raises ConfigurationError."""
    try:
        return address.parse_endpoints(text, port=port)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
