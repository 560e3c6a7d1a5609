"""Who may talk to whom: TLS on the channel, a token for the job."""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from rendezvous.address import is_loopback as loopback_host
from rendezvous.errors import ConfigurationError

TOKEN_HEADER = "authorization"
MAX_TOKEN = 4096


def read_pem(path: str | Path, what: str = "file") -> bytes:
    """Raises ConfigurationError naming the file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the {what}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What a client shows: PEM bytes and the job's token. `ca=None` and no `cert`: plaintext,
    unless `tls` asks for TLS with the system's authorities."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError("a TLS certificate needs its key, and a key its certificate")
        if self.token is not None and not valid_token(self.token):
            raise ConfigurationError("a token is 8 to 4096 printable ASCII characters, no spaces")

    @classmethod
    def from_files(
        cls,
        *,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        token_file: str | None = None,
    ) -> Security:
        """Raises ConfigurationError naming the file that can't be read."""
        return cls(
            ca=read_pem(ca, "TLS authority") if ca else None,
            cert=read_pem(cert, "TLS certificate") if cert else None,
            key=read_pem(key, "TLS key") if key else None,
            token=read_pem(token_file, "token file").decode("ascii", "replace").strip()
            if token_file
            else None,
        )

    def same_tls(self, other: Security) -> bool:
        """Whether connections that were made with the other would do."""
        mine, theirs = (self.tls, self.ca, self.cert), (other.tls, other.ca, other.cert)
        return (*mine, self.key) == (*theirs, other.key)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext."""
        if not (self.tls or self.ca or self.cert):
            return None
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.token is None else ((TOKEN_HEADER, f"Bearer {self.token}"),)


def valid_token(token: str) -> bool:
    return 8 <= len(token) <= MAX_TOKEN and all("!" <= c <= "~" for c in token)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens a service accepts: some for all jobs, or some for each named job.

    Any of several will do: the old and the new one, while they are replaced. An empty one lets
    everyone in.
    """

    for_all: tuple[str, ...] = field(default=(), repr=False)
    by_job: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.for_all or self.by_job)

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """A line holds one token for every job, or `RUN_ID TOKEN`; '#' begins a comment line.

        Several lines for the same give several tokens.
        """
        for_all: tuple[str, ...] = ()
        by_job: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) > 2 or not valid_token(words[-1]):
                raise ConfigurationError(
                    f"token file, line {number}: expected TOKEN or RUN_ID TOKEN, "
                    "where a token is 8 to 4096 printable ASCII characters"
                )
            if len(words) == 2:
                by_job[words[0]] = (*by_job.get(words[0], ()), words[1])
            else:
                for_all += (words[0],)
        tokens = cls(for_all, by_job)
        if not tokens:
            raise ConfigurationError("the token file holds no token")
        return tokens

    @classmethod
    def from_file(cls, path: str | Path) -> Tokens:
        return cls.parse(read_pem(path, "token file").decode("utf-8", "replace"))

    def known(self, header: str) -> bool:
        """Whether the value of the authorization header opens any job at all; in constant time."""
        if not self:
            return True
        shown = header.removeprefix("Bearer ").encode()
        return _among(shown, [*itertools.chain(*self.by_job.values()), *self.for_all])

    def opens(self, run_id: str, header: str) -> bool:
        """Whether the value of the authorization header opens the job; in constant time."""
        if not self:
            return True
        expected = self.by_job.get(run_id, self.for_all)
        shown = header.removeprefix("Bearer ").encode()
        # A job without a token is compared as well, or the time would tell which jobs have one.
        return _among(shown, expected or ("\0",)) and bool(expected)


def _among(shown: bytes, tokens: Iterable[str]) -> bool:
    """In the time that all of them take."""
    return sum(hmac.compare_digest(shown, token.encode()) for token in tokens) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSecurity:
    """What a service shows and asks for. With `ca` every client must show a certificate."""

    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    ca: bytes | None = None
    tokens: Tokens = field(default_factory=Tokens)

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError("--tls-cert and --tls-key go together: give both or neither")
        if self.ca is not None and self.cert is None:
            raise ConfigurationError("--tls-ca asks clients for certificates and needs --tls-cert")

    def configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """None for plaintext."""
        if self.cert is None or self.key is None:
            return None
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.ca)

    def check_listen(self, address: str, *, insecure: bool) -> None:
        """Raises ConfigurationError when `address` is open to others and anyone could join."""
        if insecure or is_loopback(address):
            return
        missing = [
            name
            for name, there in (
                ("TLS (--tls-cert, --tls-key)", self.cert is not None),
                ("a token (--token-file)", bool(self.tokens)),
            )
            if not there
        ]
        if missing:
            raise ConfigurationError(
                f"{address} can be reached by other machines, and there is no "
                f"{' and no '.join(missing)}: whoever reaches it could join or end a job. "
                "Give both, listen on 127.0.0.1, or say --insecure if the network is trusted"
            )


def is_loopback(address: str) -> bool:
    """Whether host:port is an address of this machine alone; unknown names are not."""
    return address.startswith("unix:") or loopback_host(address.rpartition(":")[0].strip("[]"))
