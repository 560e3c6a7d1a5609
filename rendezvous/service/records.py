"""Where and how the service keeps jobs in the store.

    /remesh/v1/<run_id>/job      one job's record: JSON; from 128 KiB on compressed with zlib.
                                 Beside what membership decides by it has `began`: when its
                                 generation was first stored, in seconds since 1970, for people.
    /remesh/leader               who leads: JSON, under a lease

One job is one key, so that a generation is one write in one transaction, however many nodes it has.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass

from rendezvous.generation import MAX_ADDRESS
from rendezvous.membership import Record
from rendezvous.outside.document import loads
from rendezvous.outside.fields import Fields
from rendezvous.outside.names import RUN_ID

LEADER = "/remesh/leader"
JOBS = "/remesh/v1/"
PLAIN_BYTES = 128 << 10
MAX_BYTES = 64 << 20
LATEST = 1e11
"""The last second since 1970 that is a time: some 3,000 years."""


def job_key(run_id: str) -> str:
    return f"{JOBS}{run_id}/job"


def run_id_of(key: str) -> str | None:
    """The job whose record the key holds; None for another key."""
    run_id, _, rest = key.removeprefix(JOBS).partition("/")
    return run_id if rest == "job" and RUN_ID.fits(run_id) else None


def encode_record(record: Record, began: float = 0.0) -> bytes:
    """`began` is when its generation was first stored, in seconds since 1970; 0 if unknown."""
    stored = record.to_dict() | ({"began": began} if began else {})
    text = json.dumps(stored, separators=(",", ":")).encode()
    return text if len(text) < PLAIN_BYTES else zlib.compress(text, 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lay in the store; `began` as `encode_record` has it."""

    record: Record
    began: float


def decode_record(value: bytes) -> Record:
    """Raises ValueError for what no version up to this one has written."""
    return decode_stored(value).record


def decode_stored(value: bytes) -> Stored:
    """Raises ValueError for what no version up to this one has written."""
    try:
        if not value.startswith(b"{"):
            value = zlib.decompressobj().decompress(value, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a job's record: {error}") from error
    stored = loads(value)
    began = Fields(stored, "the job's record").number("began", 0.0, LATEST, default=0.0)
    return Stored(Record.from_dict(stored), began)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRecord:
    """Who leads: the address it is reached at."""

    address: str

    def encode(self) -> bytes:
        return json.dumps({"format": 1, "address": self.address}).encode()

    @classmethod
    def decode(cls, value: bytes) -> LeaderRecord:
        """Raises ValueError for what is not one."""
        return cls(address=Fields(loads(value), "the leader's record").text("address", MAX_ADDRESS))
