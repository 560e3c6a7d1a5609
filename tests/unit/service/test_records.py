"""What the service keeps in the store: readable when small, small when large."""

from __future__ import annotations

import json

import pytest

from rendezvous.generation import Generation, Member
from rendezvous.membership import JobSpec, Record
from rendezvous.service.records import (
    LeaderRecord,
    decode_record,
    encode_record,
    job_key,
    run_id_of,
)


def _record(nodes: int) -> Record:
    members = tuple(
        Member(
            node=f"trainer-worker-{i:05d}.trainer.research.svc",
            incarnation=1_763_769_600_000 + 37 * i,
            slots=8,
            host=f"10.{i // 65536}.{i // 256 % 256}.{i % 256}",
            store_endpoint=f"10.{i // 65536}.{i // 256 % 256}.{i % 256}:{30000 + i % 9999}",
            labels={"rack": f"r{i // 32}"},
        )
        for i in range(nodes)
    )
    generation = Generation(number=3, members=members, reason="because")
    return Record(spec=JobSpec(max_nodes=nodes), generation=generation, active=True)


@pytest.mark.parametrize("nodes", [1, 8, 10_000])
def test_a_record_comes_back_as_it_was(nodes: int) -> None:
    assert decode_record(encode_record(_record(nodes))) == _record(nodes)


def test_a_small_job_is_plain_json() -> None:
    assert json.loads(encode_record(_record(8)))["generation"]["number"] == 3


def test_ten_thousand_nodes_fit_into_one_request_of_etcd() -> None:
    assert len(encode_record(_record(10_000))) < 1_500_000 / 2


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\x78\x01nonsense", b'{"format": 99}'])
def test_what_nobody_wrote_is_an_error_and_not_a_crash(value: bytes) -> None:
    with pytest.raises(ValueError):
        decode_record(value)


def test_keys_name_their_job() -> None:
    assert job_key("a.b-c") == "/remesh/v1/a.b-c/job"
    assert run_id_of(job_key("a.b-c")) == "a.b-c"
    for stray in ("/remesh/v1/a/other", "/remesh/v1/caf\\xe9/job", "/remesh/v1//job"):
        assert run_id_of(stray) is None


def test_a_leader_says_where_it_is() -> None:
    record = LeaderRecord(address="10.0.0.1:29400")
    assert LeaderRecord.decode(record.encode()) == record
    with pytest.raises(ValueError):
        LeaderRecord.decode(b"[]")
