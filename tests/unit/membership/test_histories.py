"""Random histories by hypothesis: whatever happens, in whatever order, the promises hold.

Nodes join, crash, fall silent, come back, drain, fail and finish; messages come late, twice and out
of order; clocks jump; leaders change. After each history the noise ends, and then there must be
progress. What hypothesis finds it makes as short as it can; `test_seeded_histories.py` plays many
more, and longer ones.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.membership import noise
from tests.unit.membership.world import NAMES, World


class Histories(RuleBasedStateMachine):
    @initialize(
        least=st.integers(1, 3),
        more=st.integers(0, 3),
        multiple=st.sampled_from([1, 1, 1, 2]),
        budget=st.sampled_from([0, 2, 1000]),
    )
    def begin(self, least: int, more: int, multiple: int, budget: int) -> None:
        self.world = World(noise.spec(least, more, multiple, budget))

    names = st.sampled_from(NAMES)
    late = st.sampled_from([False, False, False, True])

    @rule(several=st.sets(names, min_size=1))
    def nodes_join(self, several: set[str]) -> None:
        noise.nodes_join(self.world, several)

    @rule(name=names, fresh=st.booleans(), delayed=late)
    def node_joins(self, name: str, fresh: bool, delayed: bool) -> None:
        noise.node_joins(self.world, name, fresh=fresh, delayed=delayed)

    @rule(name=names, crash=st.booleans(), delayed=late)
    def connection_breaks(self, name: str, crash: bool, delayed: bool) -> None:
        noise.connection_breaks(self.world, name, crash=crash, delayed=delayed)

    @rule(name=names)
    def node_falls_silent(self, name: str) -> None:
        noise.node_falls_silent(self.world, name)

    @rule(name=names, delayed=late)
    def node_leaves(self, name: str, delayed: bool) -> None:
        noise.node_leaves(self.world, name, delayed=delayed)

    @rule(delayed=late)
    def members_enter(self, delayed: bool) -> None:
        noise.members_enter(self.world, delayed=delayed)

    @rule(several=st.sets(names), delayed=late)
    def members_leave_at_the_boundary(self, several: set[str], delayed: bool) -> None:
        noise.members_leave_at_the_boundary(self.world, several, delayed=delayed)

    @rule(name=names, step=st.integers(0, 3), own=st.booleans(), delayed=late)
    def worker_fails(self, name: str, step: int, own: bool, delayed: bool) -> None:
        noise.worker_fails(self.world, name, step=step, own=own, delayed=delayed)

    @rule(name=names)
    def member_leaves_by_itself(self, name: str) -> None:
        noise.member_leaves_by_itself(self.world, name)

    @rule(name=names, grace=st.floats(0, 30), operator=st.booleans())
    def node_drains(self, name: str, grace: float, operator: bool) -> None:
        noise.node_drains(self.world, name, grace=grace, operator=operator)

    @rule(nodes=st.integers(0, 6))
    def operator_scales(self, nodes: int) -> None:
        noise.operator_scales(self.world, nodes)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        noise.time_passes(self.world, seconds)

    # A jump of about a beat's timeout can't be told from that much silence.
    @rule(jump=st.floats(-1e5, 0) | st.floats(2, 1e5))
    def clock_jumps(self, jump: float) -> None:
        noise.clock_jumps(self.world, jump)

    @rule(comes_back=st.sets(names))
    def leader_changes(self, comes_back: set[str]) -> None:
        noise.leader_changes(self.world, comes_back)

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def late_message_arrives(self, data: st.DataObject) -> None:
        noise.late_message_arrives(self.world, data.draw(st.sampled_from(self.world.late)))

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def message_arrives_twice(self, data: st.DataObject) -> None:
        noise.message_arrives_twice(self.world, data.draw(st.sampled_from(self.world.sent)))

    @rule(
        status=st.sampled_from(["completed", "stopped"]),
        whole=st.booleans(),
        several=st.sets(names, min_size=3),
    )
    def members_finish(self, status: str, whole: bool, several: set[str]) -> None:
        noise.members_finish(self.world, several, status=status, whole=whole)

    def teardown(self) -> None:
        if hasattr(self, "world") and not self.world.broken:
            owed = self.world.settle()
            assert not owed, f"{owed}: {self.world.membership.view(self.world.now)}"


class TestHistories(Histories.TestCase):
    settings = settings(
        max_examples=200,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
class TestManyHistories(Histories.TestCase):
    settings = settings(
        max_examples=1500,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
