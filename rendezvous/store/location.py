"""Where a store is, as one word: `memory`, or `etcd://host:port,host:port`."""

from __future__ import annotations

from rendezvous.errors import ConfigurationError
from rendezvous.etcd import Access, Deadlines, EtcdClient
from rendezvous.store.memory import MemoryStore
from rendezvous.store.port import Store

ETCD_PORT = 2379


def open_store(
    location: str, *, access: Access | None = None, deadlines: Deadlines | None = None
) -> Store:
    """The store at `location`; nothing is dialled before its first use.

    Call it in a running event loop. Raises ConfigurationError for what is not a location.
    """
    if location == "memory":
        return MemoryStore()
    if location.startswith("etcd://"):
        endpoints = parse_endpoints(location.removeprefix("etcd://"))
        return EtcdClient(endpoints, access=access, deadlines=deadlines)
    raise ConfigurationError(
        f"{location!r} is not a store: say `memory`, or `etcd://host:port,host:port`"
    )


def parse_endpoints(text: str, *, port: int = ETCD_PORT) -> list[str]:
    """`a:2379,b,[::1]:2379` as a list of host:port. Raises ConfigurationError."""
    endpoints = []
    for part in text.rstrip("/").split(","):
        name = part.strip()
        if "://" in name:
            raise ConfigurationError(
                f"{part!r} is not host:port: leave the scheme out (etcds:// before the whole list "
                "is etcd over TLS)"
            )
        host, colon, number = name.rpartition(":")
        if not colon or name.endswith("]"):
            host, number = name, str(port)
        bare = host.removeprefix("[").removesuffix("]")
        if not bare or "/" in bare or not (number.isdecimal() and 0 < int(number) < 65536):
            raise ConfigurationError(f"{part!r} is not host:port")
        if ":" in bare and not host.startswith("["):
            raise ConfigurationError(f"{part!r}: write an IPv6 address as [{name}]:{port}")
        endpoints.append(f"{host}:{number}")
    return endpoints
