"""What a leader finds in the store."""

from __future__ import annotations

import random
import zlib

from rendezvous.generation import Generation, Member
from rendezvous.membership import JobSpec, Record
from rendezvous.membership.record import Drain, Ended, Failure
from rendezvous.service.records import LeaderRecord, decode_record, encode_record
from tests.fuzz.mutations import broken_json
from tests.fuzz.trial import ROUNDS, trial

MEMBERS = tuple(
    Member(
        node=f"n{i}",
        incarnation=i + 1,
        slots=2,
        host="h",
        store_endpoint="h:1",
        labels={"zone": "a"} if i else {},
    )
    for i in range(3)
)
FAILURE = Failure(step=4, node="n1", rank=2, own=True, counted=True, text="exit code 1", error="e")
RECORD = Record(
    spec=JobSpec(min_nodes=1, max_nodes=4),
    generation=Generation(number=3, members=MEMBERS, reason="n3 left", restarts=1),
    active=True,
    restarts=1,
    target=3,
    drains={"n2": Drain(incarnation=3, grace=30.0, reason="asked")},
    set_aside={"n3": "it failed twice"},
    evidence=(FAILURE, FAILURE),
    ended=Ended(status="stopped", reason="asked", by="operator"),
)


def a_record(rng: random.Random) -> bytes:
    data = broken_json(RECORD.to_dict(), rng)
    return zlib.compress(data) if rng.random() < 0.2 else data


@ROUNDS
def test_records(rounds: int) -> None:
    def read(data: bytes) -> None:
        record = decode_record(data)
        # What was read can be kept again, and is the same then.
        assert decode_record(encode_record(record)) == record

    trial("stored records", a_record, read, ValueError, count=4000, rounds=rounds)


@ROUNDS
def test_leaders(rounds: int) -> None:
    value = {"format": 1, "address": "host:29400"}
    make = lambda rng: broken_json(value, rng)  # noqa: E731 - as short as what it says
    trial("leaders", make, LeaderRecord.decode, ValueError, count=2000, rounds=rounds)
