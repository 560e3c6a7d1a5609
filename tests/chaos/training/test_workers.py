"""Workers die, one after the other and together; 4 workers on 2 agents."""

from __future__ import annotations

import pytest

from tests.chaos.training.crew import MIRROR_EVERY, Crew
from tests.integration.launcher.launching import REMESH, Launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_each_rank_is_killed_once(launcher: Launcher, sha256: str) -> None:
    """1. ranks 0, 1, 2, 3 are killed at steps 20, 50, 80, 110; 2. each is replaced by a standby;
    3. the survivors are the same processes from the first generation to the last."""
    crew = Crew(launcher)
    crew.start("a", "b")
    for rank in range(4):
        crew.reach(20 + 30 * rank)
        before, number = crew.workers(), crew.number
        crew.kill(rank)
        crew.wait_for_generation(number + 1)
        after = crew.workers()
        assert {r for r in before if before[r].pid != after[r].pid} == {rank}
    summary = crew.check(sha256, lost_steps=4 * MIRROR_EVERY)
    assert summary["generations"] >= 5


def test_with_replicas_a_killed_rank_costs_no_step(launcher: Launcher, sha256: str) -> None:
    """1. dp is 2 replicas of 2 shards; 2. each rank is killed once; 3. no step is repeated."""
    crew = Crew(launcher, "--set=parallel.replicate=2", "--set=elastic.mirror_every=0")
    crew.start("a", "b")
    for rank in range(4):
        crew.reach(20 + 30 * rank)
        number = crew.number
        crew.kill(rank)
        crew.wait_for_generation(number + 1)
    crew.check(sha256, lost_steps=0)


@pytest.mark.parametrize("ranks", [(0, 1), (1, 2)], ids=["one node's", "two nodes'"])
def test_two_die_at_once(launcher: Launcher, sha256: str, ranks: tuple[int, int]) -> None:
    """1. two workers of one node, or of two, are killed at step 25, and again at 75."""
    crew = Crew(launcher)
    crew.start("a", "b")
    for step in (25, 75):
        crew.reach(step)
        crew.kill(*ranks)
    crew.check(sha256, lost_steps=2 * MIRROR_EVERY)


def test_killed_during_recovery_and_during_the_recovery_of_that(
    launcher: Launcher, sha256: str
) -> None:
    """1. rank 3 is killed; 2. when the next generation begins, rank 0 is; 3. when the one after
    begins, rank 2 is; 4. the same 60 steps later, from the other end."""
    crew = Crew(launcher)
    crew.start("a", "b")
    for first, ranks in ((25, (3, 0, 2)), (100, (0, 2, 1))):
        crew.reach(first)
        for rank in ranks:
            number = crew.number
            crew.kill(rank)
            crew.wait_for_generation(number + 1)
    crew.check(sha256, lost_steps=6 * MIRROR_EVERY)


def test_killed_during_a_checkpoint(launcher: Launcher, sha256: str) -> None:
    """1. every 5th step is saved; 2. in the save of step 30 rank 1 is killed, of 60 rank 0 and
    of 90 rank 3; 3. what is in storage afterwards is whole."""
    faults = [
        f"--fault=kind=kill,step={step},rank={rank},point=in-save"
        for step, rank in ((30, 1), (60, 0), (90, 3))
    ]
    crew = Crew(launcher, "--set=checkpoint.every=5", *faults)
    crew.start("a", "b")
    crew.check(sha256, lost_steps=3 * MIRROR_EVERY)
    assert crew.number >= 4
    verified = launcher([*REMESH, "checkpoint", "verify", str(crew.root / "checkpoints")])
    assert verified.code == 0, verified.out + verified.err


def test_a_worker_that_is_stopped_is_replaced(launcher: Launcher, sha256: str) -> None:
    """1. rank 2 gets SIGSTOP at step 40; 2. it is found behind and replaced; 3. so is rank 1."""
    crew = Crew(launcher, "--set=elastic.hang_timeout=4", "--set=elastic.interrupt_timeout=2")
    crew.start("a", "b")
    for step, rank in ((40, 2), (90, 1)):
        crew.reach(step)
        number = crew.number
        crew.workers()[rank].suspend()
        crew.wait_for_generation(number + 1)
    crew.check(sha256, lost_steps=2 * MIRROR_EVERY)
    assert crew.events("worker.hung")
