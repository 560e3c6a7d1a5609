"""The files that a service shows and asks by, read again while it runs: tokens and certificates are
replaced, and a control plane is not restarted for that."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable

import grpc

from rendezvous.complaints import Complaints
from rendezvous.errors import ConfigurationError
from rendezvous.security import ServerSecurity, Tokens

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds after which they are read again, when somebody comes: a crowd reads them once."""
FILES = "files"
"""What is complained of while one of them can't be read."""


def check_pair(cert: str, key: str) -> None:
    """Raises ConfigurationError unless the certificate and the key belong together.

    Whoever writes one after the other has two for a moment that don't.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # It would ask the terminal for the password of a key that has one.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the TLS certificate {cert} and the key {key} don't belong together, or can't be "
            f"read: {error}"
        ) from error


class LiveSecurity:
    """What a service shows and asks for now: at first `first`, later what `read` gives.

    `read` may raise ConfigurationError; then what was read before is used on. TLS can't be switched
    on or off so, nor can the asking for tokens. Used from the event loop and from grpc's threads.
    """

    def __init__(
        self, first: ServerSecurity, read: Callable[[], ServerSecurity] | None = None
    ) -> None:
        self._first = self._now = first
        self._read = read
        self._read_at = time.monotonic()
        self._complaints = Complaints()
        self._lock = threading.Lock()

    @property
    def tokens(self) -> Tokens:
        return self._look().tokens

    def credentials(self) -> grpc.ServerCredentials | None:
        """None for plaintext. Whoever connects later is shown the newest certificate."""
        configuration = self._first.configuration()
        if configuration is None:
            return None
        return grpc.dynamic_ssl_server_credentials(
            configuration, self._fetch, require_client_authentication=self._first.ca is not None
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """For the next handshake."""
        configuration = self._look().configuration() or self._first.configuration()
        assert configuration is not None, "it is asked for where there was one at first"
        return configuration

    def _look(self) -> ServerSecurity:
        with self._lock:
            now = time.monotonic()
            if self._read is None or now - self._read_at < AGAIN:
                return self._now
            self._read_at = now
            try:
                fresh = self._read()
            except ConfigurationError as error:
                # Somebody is about to replace it, perhaps.
                if self._complaints.due(FILES, now):
                    log.warning("what was read before is used on: %s", error)
                return self._now
            self._complaints.over(FILES)
            if fresh != self._now:
                log.info("tokens or certificates have changed, and are used from now on")
                self._now = fresh
            return self._now
