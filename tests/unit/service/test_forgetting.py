"""Jobs that an operator has forgotten, and what is said of nodes that are not taken in."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rendezvous.complaints import AGAIN
from rendezvous.security import Tokens
from rendezvous.service import service
from rendezvous.service.records import JOBS, job_key
from rendezvous.service.refusals import MOST, Refusals
from rendezvous.service.service import Service
from rendezvous.store import MemoryStore, Put
from rendezvous.wire import rendezvous_pb2 as wire
from tests.unit.service.test_limits import Agent, in_virtual_time, join_of, leading


async def _three(made: Service) -> Agent:
    """Two jobs that have ended, and one that goes on, whose agent is returned."""
    for run_id in ("done", "over"):
        await Agent(made, join_of(run_id)).complete()
    goes_on = Agent(made, join_of("goes-on"))
    await goes_on.until("generation_began")
    return goes_on


async def _stored(store: MemoryStore) -> list[str]:
    return sorted(entry.key for entry in (await store.list(JOBS)).entries)


async def _forget(
    made: Service, *run_ids: str, ended: bool = False, force: bool = False, token: str = ""
) -> wire.ForgetReply:
    request = wire.ForgetRequest(run_ids=run_ids, ended=ended, force=force)
    return await made.forget(request, token)


@in_virtual_time
async def test_ended_jobs_are_forgotten_by_name_and_live_ones_are_not() -> None:
    store = MemoryStore()
    async with leading(store) as made:
        await _three(made)
        reply = await _forget(made, "done", "goes-on", "nobody")
        assert list(reply.forgotten) == ["done"]
        assert sorted(reply.kept) == ["goes-on", "nobody"]
        assert "it has not ended" in reply.kept["goes-on"]
        assert "no such job" in reply.kept["nobody"]
        assert await _stored(store) == [job_key("goes-on"), job_key("over")]
        assert [job.run_id for job in made.status("", "").jobs] == ["goes-on", "over"]


@in_virtual_time
async def test_all_that_have_ended_are_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many: a write takes a bounded number."""
    monkeypatch.setattr(service, "AT_ONCE", 2)
    store = MemoryStore()
    async with leading(store) as made:
        goes_on = await _three(made)
        await Agent(made, join_of("third")).complete()
        reply = await _forget(made, ended=True)
        assert list(reply.forgotten) == ["done", "over", "third"]
        assert not reply.kept
        assert await _stored(store) == [job_key("goes-on")]
        fresh = Agent(made, join_of("done", incarnation=2))
        assert (await fresh.until("generation_began")).number == 1, "its name is free"
        await goes_on.complete()


@in_virtual_time
async def test_agents_of_a_job_that_is_forgotten_by_force_come_back_and_go_on() -> None:
    """The stream ends, so that they join again, and say which generation they are in."""
    async with leading(MemoryStore()) as made:
        goes_on = await _three(made)
        assert (await goes_on.until("generation_began")).number == 1
        reply = await _forget(made, "goes-on", force=True)
        assert list(reply.forgotten) == ["goes-on"]
        await goes_on.ended()
        again = Agent(made, join_of("goes-on", generation=1))
        for _ in range(20):
            # Others have the time to come back as well.
            again.say(beat=wire.Beat())
            await asyncio.sleep(0.5)
        assert (await again.until("generation_began")).number == 2
        await again.complete()


@in_virtual_time
async def test_a_record_that_can_not_be_read_is_removed_by_force_alone() -> None:
    store = MemoryStore()
    await store.txn([], [Put(job_key("bad"), b"{")])
    async with leading(store) as made:
        refused = await Agent(made, join_of("bad")).until("refused")
        assert "cannot be read" in refused.reason
        assert "--force" in (await _forget(made, "bad")).kept["bad"]
        assert list((await _forget(made, "bad", force=True)).forgotten) == ["bad"]
        assert await _stored(store) == []
        await Agent(made, join_of("bad")).until("welcome")


@in_virtual_time
async def test_a_token_forgets_what_it_opens() -> None:
    tokens = Tokens.parse("done token-of-done\nover token-of-over\n")
    async with leading(MemoryStore(), tokens=tokens) as made:
        for run_id in ("done", "over"):
            await Agent(made, join_of(run_id), f"Bearer token-of-{run_id}").complete()
        other = await _forget(made, "over", token="Bearer token-of-done")
        assert "no such job" in other.kept["over"]
        mine = await _forget(made, ended=True, token="Bearer token-of-done")
        assert list(mine.forgotten) == ["done"]


@in_virtual_time
async def test_an_ended_job_that_is_attended_keeps_no_other_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its agent has not gone yet."""
    monkeypatch.setattr(service, "MAX_JOBS", 1)
    async with leading(MemoryStore()) as made:
        first = Agent(made, join_of("first"))
        number = (await first.until("generation_began")).number
        first.say(sequence=1, finished=wire.Finished(generation=number, status="completed"))
        await first.until("job_ended")
        await Agent(made, join_of("second")).until("generation_began")
        refused = await Agent(made, join_of("third")).until("refused")
        assert "jobs that have not ended" in refused.reason


@in_virtual_time
async def test_a_refusal_is_in_the_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that the job itself decides: the name is taken."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(service, "MAX_JOBS", 1)
    async with leading(MemoryStore()) as made:
        await Agent(made, join_of("first")).until("generation_began")
        for _ in range(50):
            await Agent(made, join_of("second", node="b")).until("refused")
            await Agent(made, join_of("first", incarnation=2)).until("refused")
    assert caplog.text.count("job second: node b is refused: the service holds 1 jobs") == 1
    assert caplog.text.count("job first: node n is refused: node n attends already") == 1


def test_refusals_are_paced_and_counted() -> None:
    refusals = Refusals()
    assert refusals.line("a", "n", "full", 0.0) == "job a: node n is refused: full"
    assert refusals.line("a", "m", "full", 1.0) == ""
    assert refusals.line("", "", "no token", 2.0) == (
        "a stranger is refused: no token (since the last such line 1 more refusals)"
    )
    assert refusals.line("a", "n", "full", AGAIN) == "job a: node n is refused: full"


def test_strangers_with_many_names_fill_no_disk() -> None:
    refusals = Refusals()
    lines = [refusals.line(f"job-{i}", "n", "full", 0.001 * i) for i in range(1000)]
    assert sum(bool(line) for line in lines) == MOST
    assert f"{1000 - MOST} more" in refusals.line("a", "n", "full", AGAIN + 1.0)
