"""Waiting times that don't fit together are found at the start, not at three in the morning."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.membership import JobSpec
from rendezvous.session import NodeIdentity, Session
from rendezvous.timeouts import Timeouts


def test_the_defaults_fit_together() -> None:
    Timeouts().check(JobSpec())


@pytest.mark.parametrize(
    ("change", "pair"),
    [
        ({"retry_first": 1.0}, "retry_first"),
        ({"retry_most": 3.0}, "retry_most"),
        ({"pulse": 2.0}, "pulse"),
        ({"answer": 4.0}, "answer"),
        ({"silence": 9.0}, "lease"),
        ({"lease": 0.0}, "lease"),
    ],
)
def test_an_order_that_is_broken_is_named(change: dict[str, float], pair: str) -> None:
    with pytest.raises(ConfigurationError, match=pair):
        Timeouts(**change)  # type: ignore[arg-type]


def test_a_job_that_no_agent_could_be_back_for_is_refused() -> None:
    node = NodeIdentity(node="a", slots=1, host="h", store_endpoint="h:1")
    with pytest.raises(ConfigurationError, match="leader_grace"):
        Session(["h:1"], run_id="job", node=node, spec=JobSpec(leader_grace=1.0))
    with pytest.raises(ConfigurationError, match="reconnect_grace"):
        Session(["h:1"], run_id="job", node=node, spec=JobSpec(reconnect_grace=0.01))
    with pytest.raises(ConfigurationError, match="at least one"):
        Session([], run_id="job", node=node, spec=JobSpec())


def test_two_beats_are_sent_within_the_time_a_node_is_believed_in() -> None:
    assert 2 * Timeouts().beat(JobSpec(beat_timeout=1.0)) <= 1.0


def test_a_large_job_needs_more_patience_with_a_new_leader() -> None:
    timeouts = Timeouts()
    timeouts.check(JobSpec(max_nodes=1000))
    with pytest.raises(ConfigurationError, match="10000 nodes"):
        timeouts.check(JobSpec(max_nodes=10_000))
    grace = timeouts.least_leader_grace(10_000)
    timeouts.check(JobSpec(max_nodes=10_000, leader_grace=grace))


def test_the_documentation_tells_these_defaults():
    text = (Path(__file__).parents[3] / "docs" / "rendezvous.md").read_text()
    rows = re.findall(
        r"^\|[^|]+\| ([\d.]+) s[^|]*\| `(Timeouts|JobSpec)\.(\w+)`", text, re.MULTILINE
    )
    told = {(owner, name): float(seconds) for seconds, owner, name in rows}
    owners = {"Timeouts": Timeouts(), "JobSpec": JobSpec()}
    assert told == {(owner, name): getattr(owners[owner], name) for owner, name in told}
    missing = {field.name for field in fields(Timeouts)} - {name for _, name in told}
    assert missing == set(), "a timeout that the table does not tell"
