"""Small readers of flag values, each with one clear complaint."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rendezvous.bounds import MAX_NODES, MAX_SLOTS
from trainer.address import parse_endpoints
from trainer.agent.launch import Stream
from trainer.errors import JobError
from trainer.names import NODE, RUN_ID, Form, named
from trainer.outside.echo import shown
from trainer.outside.numbers import decimal, whole
from trainer.signals import LEAVE_SIGNALS

DEFAULT_SIGNALS = ",".join(number.name for number in LEAVE_SIGNALS)
_ONE = re.compile(r"[0123]")
_MAPPING = re.compile(r"(\d+:[0123],)*\d+:[0123]")

DURATIONS = {
    "timeout": "join_timeout",
    "join_timeout": "join_timeout",
    "last_call_timeout": "last_call",
    "last_call": "last_call",
    "beat_timeout": "beat_timeout",
    "reconnect_grace": "reconnect_grace",
    "grow_interval": "grow_interval",
    "boundary_timeout": "boundary_timeout",
    "leader_grace": "leader_grace",
    "wait": "wait",
}
DEFAULT_PORT = 29400
PORT_0 = (
    "; port 0 is where nobody can be met: give the port of `remesh rendezvous serve`, or for one "
    "node --nnodes 1 --rdzv-backend c10d, as to torchrun, or no endpoint at all"
)
"""torchrun's."""
FILES = ("tls_ca", "tls_cert", "tls_key", "token_file")


def node_range(text: str) -> tuple[int, int]:
    """`2` or `1:4`. Raises JobError."""
    first, colon, second = text.partition(":")
    try:
        low = whole(first, high=MAX_NODES)
        high = whole(second, high=MAX_NODES) if colon else low
    except ValueError as error:
        raise JobError(
            f"--nnodes: {error}; give a number such as 2, or MIN:MAX such as 1:4"
        ) from None
    if not 1 <= low <= high:
        raise JobError(f"--nnodes is {text!r}; it must be 1 ≤ MIN ≤ MAX")
    return low, high


def run_id(text: str | None, flag: str = "--rdzv-id") -> str | None:
    """The name of a run, as the run directory and the service take it. Raises JobError."""
    return None if text is None else _named(RUN_ID, text, flag)


def node(text: str | None) -> str | None:
    """The name of this node. Raises JobError."""
    return None if text is None else _named(NODE, text, "--node")


def _named(form: Form, text: str, flag: str) -> str:
    try:
        return named(form, text, given=flag)
    except ValueError as error:
        raise JobError(str(error)) from None


def streams(text: str | None, slots: int, flag: str) -> dict[int, Stream]:
    """`3`, or `0:1,1:2` by local rank. Raises JobError."""
    if text is None:
        return {}
    if _ONE.fullmatch(text):
        return dict.fromkeys(range(slots), Stream(int(text)))
    if _MAPPING.fullmatch(text):
        pairs = (pair.split(":") for pair in text.split(","))
        return {_local_rank(rank, flag): Stream(int(value)) for rank, value in pairs}
    raise JobError(f"{flag} is {shown(text)}; give 0, 1, 2, 3, or a value for each such as 0:1,1:3")


def ranks(text: str | None) -> frozenset[int] | None:
    """`0,2`. Raises JobError."""
    if not text:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise JobError(f"--local-ranks-filter is {shown(text)}; give local ranks such as 0,2")
    return frozenset(_local_rank(word, "--local-ranks-filter") for word in text.split(","))


def _local_rank(text: str, flag: str) -> int:
    try:
        return whole(text, high=MAX_SLOTS, given=f"{flag}: a local rank")
    except ValueError as error:
        raise JobError(str(error)) from None


def signals(text: str | None) -> tuple[int, ...]:
    """Names with or without SIG. Raises JobError."""
    numbers = []
    for word in (text or DEFAULT_SIGNALS).split(","):
        name = word.strip().upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name not in signal.Signals.__members__ or name in ("SIGKILL", "SIGSTOP"):
            raise JobError(f"--signals-to-handle: {shown(word)} is no signal that can be handled")
        numbers.append(int(signal.Signals[name]))
    return tuple(numbers)


def endpoints(text: str | None) -> tuple[str, ...]:
    """`h1:29400,h2` with torchrun's default port. Raises JobError."""
    if not (text or "").strip():
        return ()
    try:
        return tuple(parse_endpoints(text or "", port=DEFAULT_PORT))
    except ValueError as error:
        hint = PORT_0 if "a port is 1" in str(error) else ""
        raise JobError(f"--rdzv-endpoint: {error}{hint}") from None


@dataclass(frozen=True, slots=True)
class RendezvousConf:
    """What --rdzv-conf says: times in seconds for the job, files, and words nobody knows."""

    times: Mapping[str, float]
    files: Mapping[str, Path]
    unknown: tuple[str, ...]


def rendezvous_conf(text: str | None) -> RendezvousConf:
    """`key=value,…`. Raises JobError for what is not of that form or no number of seconds."""
    times: dict[str, float] = {}
    files: dict[str, Path] = {}
    unknown = []
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not key:
            raise JobError(f"--rdzv-conf: {shown(pair)} is not KEY=VALUE")
        if key in FILES:
            files[key] = Path(value).expanduser()
        elif key in DURATIONS:
            try:
                times[DURATIONS[key]] = decimal(value)
            except ValueError:
                raise JobError(
                    f"--rdzv-conf: {key} is {shown(value)}, not a time in seconds"
                ) from None
        else:
            unknown.append(key)
    return RendezvousConf(times, files, tuple(unknown))
