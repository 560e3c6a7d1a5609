"""The status as people and programs read it."""

from __future__ import annotations

import json

import pytest

from rendezvous.service.reply import as_json, as_text, duration
from rendezvous.wire import rendezvous_pb2 as wire

STATUS = wire.StatusReply(
    service="h1:29400",
    leader="h1:29400",
    leading_for=61,
    jobs=[
        wire.JobStatus(
            run_id="llama",
            phase="running",
            generation=4,
            generation_reason="node b was lost",
            generation_age=3.2,
            restarts=1,
            nodes=[
                wire.NodeStatus(node="c", state="spare", group_rank=-1, slots=8, host="h3"),
                wire.NodeStatus(
                    node="a", state="running", group_rank=0, slots=8, host="h1",
                    attending_for=400, heard_ago=0.3, status={"step": "12"},
                ),
            ],
        )
    ],
)  # fmt: skip


def test_people_see_the_leader_the_reason_and_members_first() -> None:
    text = as_text(STATUS)
    assert "h1:29400 leads, for 1m01s" in text
    assert "generation 4, 3.2s old" in text
    assert "node b was lost" in text
    assert "step=12" in text
    assert text.index(" a ") < text.index(" c ")


def test_programs_see_all_of_it_as_numbers() -> None:
    plain = json.loads(as_json(STATUS))
    assert plain["leader"] == "h1:29400"
    assert plain["jobs"][0]["generation"] == 4
    assert plain["jobs"][0]["nodes"][1]["status"] == {"step": "12"}
    assert plain["jobs"][0]["nodes"][0]["incarnation"] == 0


def test_no_leader_and_no_jobs_are_said() -> None:
    assert "no replica leads" in as_text(wire.StatusReply(service="h1:1"))
    assert "no jobs" in as_text(wire.StatusReply(service="h1:1", leader="h1:1"))
    assert "does not answer" in as_text(wire.StatusReply(service="h2:1", leader="h1:1"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0s"), (9.96, "10.0s"), (42.7, "42s"), (310, "5m10s"), (11100, "3h05m"),
     (187_200, "2d04h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
