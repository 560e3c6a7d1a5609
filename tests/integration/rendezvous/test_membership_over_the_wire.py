"""One replica, real sockets: nodes join, fail, drain, grow, and the job ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rendezvous.service import Running, running
from rendezvous.session import (
    DrainDone,
    JobEnded,
    LeaveAtBoundary,
    Operator,
    Refused,
    Spare,
)
from rendezvous.store import MemoryStore, Store
from tests.attendants import Attendant, Crew, spec_of


@pytest.fixture(params=["memory", "etcd"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        from rendezvous.etcd import EtcdClient

        store = EtcdClient([request.getfixturevalue("etcd").endpoint])
    yield store
    await store.close()


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[Running]:
    async with running(store, listen="127.0.0.1:0", handover=0.0) as replica:
        await replica.service.led.wait()
        yield replica


async def test_nodes_form_a_generation(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(2, 3)) as crew:
        await crew.join("a", "b", "c")
        generation = await crew.formed(1)
        assert generation.number == 1
        assert sorted(m.node for m in generation.members) == ["a", "b", "c"]
        assert generation.world_size == 6
        assert generation.store_endpoint.startswith("127.0.0.1:")


async def test_the_smallest_number_is_enough_after_the_last_call(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(2, 8)) as crew:
        await crew.join("a", "b")
        assert len((await crew.formed(1)).members) == 2


async def test_a_worker_fails_and_the_same_nodes_go_on(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(2, 2)) as crew:
        a, _b = await crew.join("a", "b")
        first = await crew.formed(1)
        await a.fail_worker(rank=0, cause="out of memory")
        second = await crew.formed(2)
        assert [m.node for m in second.members] == [m.node for m in first.members]
        assert "out of memory" in second.reason
        assert second.store_endpoint != first.store_endpoint


async def test_a_failure_is_heard_whatever_characters_tell_of_it(replica: Running) -> None:
    """A coloured message, a space that does not break, half of a character, far too long."""
    cause = "\x1b[31mbad\x1b[0m value\xa07 \udc80\x00\r" + "x" * 5000
    async with Crew([replica.endpoint], spec_of(1, 1)) as crew:
        (a,) = await crew.join("a")
        await crew.formed(1)
        await a.fail_worker(rank=0, cause=cause)
        second = await crew.formed(2)
        assert "bad value 7 \\udc80\\x00 xxx" in second.reason


async def test_a_node_vanishes_and_the_others_go_on(replica: Running) -> None:
    """Its stream ends, nothing else is said: no beat timeout has to pass."""
    async with Crew([replica.endpoint], spec_of(1, 3, beat_timeout=9.0)) as crew:
        a, b, c = await crew.join("a", "b", "c")
        await crew.formed(1)
        await b.vanish()
        generation = await crew.formed(2, [a, c])
        assert sorted(m.node for m in generation.members) == ["a", "c"]
        assert "b" in generation.reason


async def test_a_node_leaves_and_is_not_waited_for(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(1, 2, reconnect_grace=4.0)) as crew:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        await b.session.leave("the test is over")
        generation = await a.until_generation(2)
        assert [m.node for m in generation.members] == ["a"]
        assert "the test is over" in generation.reason


async def test_a_drained_node_goes_when_the_others_have_its_state(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(1, 2)) as crew, _operator(replica) as operator:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        reply = await operator.drain("job", "b", grace=30, reason="maintenance")
        assert reply.accepted, reply.reason
        await b.until_heard(DrainDone)
        assert a.members == ["a"]
        assert any(isinstance(event, LeaveAtBoundary) for event in a.heard)
        assert "maintenance" in a.generations[-1].reason


async def test_a_late_node_enters_at_a_step_boundary(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(1, 2)) as crew:
        (a,) = await crew.join("a")
        await crew.formed(1)
        await crew.join("b")
        generation = await crew.formed(2)
        assert [m.node for m in generation.members] == ["a", "b"]
        assert any(isinstance(event, LeaveAtBoundary) for event in a.heard)


async def test_a_node_too_many_waits_and_takes_over(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(2, 2)) as crew:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        (c,) = await crew.join("c")
        await c.until_heard(Spare)
        await a.vanish()
        generation = await crew.formed(2, [b, c])
        assert sorted(m.node for m in generation.members) == ["b", "c"]


async def test_an_operator_scales_the_job(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(1, 3)) as crew, _operator(replica) as operator:
        await crew.join("a", "b", "c")
        await crew.formed(1)
        refused = await operator.scale("job", 7)
        assert not refused.accepted
        assert "1 to 3" in refused.reason
        assert (await operator.scale("job", 2)).accepted
        assert len((await crew.formed(2)).members) == 2


async def test_the_job_ends_for_all_and_for_who_comes_later(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(2, 2)) as crew:
        a, b = await crew.join("a", "b")
        await crew.formed(1)
        for attendant in (a, b):
            await attendant.session.finished(1, status="completed")
        for attendant in (a, b):
            ended = await attendant.until_heard(JobEnded)
            assert isinstance(ended, JobEnded)
            assert ended.status == "completed"
        (late,) = await crew.join("c")
        await late.until_heard(JobEnded)


async def test_another_job_under_the_same_name_is_refused(replica: Running) -> None:
    async with Crew([replica.endpoint], spec_of(1, 2)) as crew:
        await crew.join("a")
        await crew.formed(1)
        stranger = Attendant([replica.endpoint], "b", spec=spec_of(2, 5))
        async with stranger:
            refused = await stranger.until_heard(Refused)
            assert isinstance(refused, Refused)
            assert "max_nodes" in refused.reason
            assert not refused.retryable


async def test_jobs_of_one_service_don_t_touch_each_other(replica: Running) -> None:
    async with (
        Crew([replica.endpoint], spec_of(1, 1), run_id="one") as one,
        Crew([replica.endpoint], spec_of(1, 1), run_id="two") as two,
    ):
        await one.join("a")
        await two.join("a")
        await one.formed(1)
        await two.formed(1)
        async with _operator(replica) as operator:
            status = await operator.status()
            assert [job.run_id for job in status.jobs] == ["one", "two"]
            assert status.leader == replica.advertise
            (node,) = status.jobs[0].nodes
            assert (node.node, node.group_rank) == ("a", 0)
            assert [job.run_id for job in (await operator.status("two")).jobs] == ["two"]


async def test_a_new_leader_disturbs_nobody(store: Store, tmp_path: Path) -> None:
    """The replica hands over to another; the generation stands, and the next one follows it."""
    async with running(store, listen="127.0.0.1:0") as second_to_lead:
        first = second_to_lead
        await first.service.led.wait()
        async with running(store, listen="127.0.0.1:0") as other:
            endpoints = [other.endpoint, first.endpoint]
            async with Crew(endpoints, spec_of(1, 3)) as crew:
                a, b, c = await crew.join("a", "b", "c")
                await crew.formed(1)
                await first.service.leave(10.0)
                await other.service.led.wait()
                for attendant in (a, b, c):
                    await attendant.until(lambda a=attendant: a.connected)  # type: ignore[misc]
                    await attendant.until_steps(20)
                    assert len(attendant.generations) == 1
                await b.vanish()
                generation = await crew.formed(2, [a, c])
                assert generation.number == 2
                assert sorted(m.node for m in generation.members) == ["a", "c"]


def _operator(replica: Running) -> Operator:
    return Operator([replica.endpoint])
