"""How to get in: TLS, mutual TLS, name and password."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from rendezvous.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the client shows to etcd and demands of it; PEM bytes. Plaintext when all is left out.

    Raises ConfigurationError when one half of a pair is missing.
    """

    ca: bytes | None = None
    """The authority of the server's certificate; with `tls` alone, the system's."""
    cert: bytes | None = None
    """The client's own certificate, for a server that asks for one (mutual TLS) …"""
    key: bytes | None = field(default=None, repr=False)
    """… and its key."""
    user: str | None = None
    """Who to be, where etcd's authentication is on …"""
    password: str | None = field(default=None, repr=False)
    """… and the password of that user."""
    tls: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError("etcd: a client certificate needs its key, and a key its cert")
        if (self.user is None) != (self.password is None):
            raise ConfigurationError("etcd: a user needs a password, and a password its user")

    def same_tls(self, other: Access) -> bool:
        """Whether connections that were made with the other would do."""
        mine, theirs = (self.tls, self.ca, self.cert, self.key), (other.tls, other.ca, other.cert)
        return mine == (*theirs, other.key)

    @property
    def secure(self) -> bool:
        """Whether it is TLS that is spoken."""
        return self.tls or self.ca is not None or self.cert is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext."""
        if self.secure:
            return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)
        return None
