"""What both backends read alike from torchrun's flags."""

from __future__ import annotations

from collections.abc import Set

from torch.distributed.elastic.rendezvous import RendezvousParameters

from rendezvous.address import own_address
from rendezvous.errors import ConfigurationError

# Of torch's own backends. They mean nothing here; torchrun adds the first one by itself.
FOREIGN = {
    "timeout", "is_host", "store_type", "close_timeout", "heartbeat_timeout",
    "keep_alive_interval", "keep_alive_max_attempt",
}  # fmt: skip
JOIN_TIMEOUT = 600.0
LAST_CALL = 30.0
READ_TIMEOUT = 60.0


def check_known(parameters: RendezvousParameters, known: Set[str]) -> None:
    """Raises ConfigurationError for a key of --rdzv-conf that nobody knows."""
    if unknown := set(parameters.config) - known - FOREIGN:
        raise ConfigurationError(
            f"--rdzv-conf: {', '.join(sorted(unknown))} is unknown; "
            f"there are {', '.join(sorted(known))}"
        )


def seconds(parameters: RendezvousParameters, name: str, default: float) -> float:
    """Raises ConfigurationError for what is not a time."""
    said = parameters.get(name, default)
    try:
        value = float(said)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(f"--rdzv-conf: {name}={said} is not a number of seconds")
    return value


def address_towards(endpoint: str) -> str:
    """This machine's address on the way to `endpoint`; no packet is sent.

    Raises ConfigurationError when the name can't be resolved.
    """
    try:
        return own_address(endpoint)
    except OSError as error:
        raise ConfigurationError(f"--rdzv-endpoint: {endpoint}: {error}") from error
