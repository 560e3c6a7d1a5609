"""The port on which a node would serve the next generation's store."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rendezvous.generation import Generation, Member
from trainer.agent import attendance
from trainer.agent.attendance import Attendance
from trainer.agent.endpoint import StoreSocket
from trainer.agent.launch import Launch, Membership, Script
from trainer.errors import JobError, NoPort


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    membership = Membership(endpoints=(), min_nodes=1, max_nodes=1, max_restarts=0)
    script = Script(argv=("true",))
    return Launch(
        run_id="r",
        directory=tmp_path,
        job_text="",
        slots=1,
        workers=script,
        membership=membership,
    )


class Short:
    """Opens sockets, but for as many times as `refusals` there is no descriptor."""

    def __init__(self) -> None:
        self.refusals = 0

    def __call__(self, host: str, *, listen: bool) -> StoreSocket:
        if self.refusals > 0:
            self.refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return StoreSocket(host, listen=listen)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Short:
    short = Short()
    monkeypatch.setattr(attendance, "StoreSocket", short)
    monkeypatch.setattr(attendance, "PAUSE_SECONDS", 0.001)
    return short


def hosted(attends: Attendance) -> Generation:
    """The generation whose store is at the port that is open ahead."""
    endpoint = attends._next.endpoint
    member = Member(node="a", incarnation=1, slots=1, host="h", store_endpoint=endpoint)
    return Generation(number=1, members=(member,), reason="r")


def test_without_one_nothing_begins(launch: Launch, short: Short) -> None:
    short.refusals = 1
    with pytest.raises(JobError, match=r"Too many open files.*ulimit -n"):
        Attendance(launch, "a")


async def test_a_shortage_that_passes_is_waited_for(launch: Launch, short: Short) -> None:
    async with Attendance(launch, "a") as attends:
        used = attends._next
        short.refusals = 20
        await attends.began(hosted(attends))
        assert short.refusals == 0
        assert attends._next is not used
        taken = attends.take_socket(1)
        assert taken is used
        taken.release()


async def test_one_that_stays_ends_the_node(
    launch: Launch, short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "OPEN_SECONDS", 0.05)
    async with Attendance(launch, "a") as attends:
        short.refusals = 1_000_000
        with pytest.raises(NoPort, match=r"Too many open files.*ulimit -n.*tried for 0\.05 s"):
            await attends.began(hosted(attends))
