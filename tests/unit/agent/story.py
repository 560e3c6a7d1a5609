"""Tells an agent's stories: what is heard, what is done. No process, no clock."""

from __future__ import annotations

from rendezvous.generation import Generation, Member
from trainer.agent import actions as act
from trainer.agent import facts
from trainer.agent.actions import Action
from trainer.agent.facts import Fact
from trainer.agent.process import Exit
from trainer.agent.slot import Policy
from trainer.agent.state import AgentState

KILLED = Exit(None, 9)


LOOP = Policy(persistent=True, standby=1, interrupt_seconds=5.0, quit_seconds=10.0)


SCRIPT = Policy(persistent=False, interrupt_seconds=30.0, quit_seconds=30.0)


def generation(number: int, *nodes: str, slots: int = 2, reason: str = "why") -> Generation:
    members = tuple(
        Member(node=node, incarnation=1, slots=slots, host=node, store_endpoint=f"{node}:{number}")
        for node in nodes or ("a",)
    )
    return Generation(number=number, members=members, reason=reason)


class Story:
    """Feeds facts to one agent on node `a` with two slots, and looks at what it does."""

    def __init__(self, policy: Policy) -> None:
        self.state = AgentState("a", 2, policy)
        self.now = 0.0
        self.said = ""
        self.done = self.state.begin(self.now)

    def hear(self, *heard: Fact) -> list[Action]:
        self.done = [action for fact in heard for action in self.state.step(fact, self.now)]
        return self.done

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.hear(facts.Tick())

    def did(self, kind: type) -> list:
        return [action for action in self.done if isinstance(action, kind)]

    def killed_after(self, seconds: float) -> list[int]:
        """Who is killed as a time has run out, and the one line that says so."""
        self.wait(seconds)
        (self.said,) = (show.text for show in self.did(act.Show))
        return [kill.process for kill in self.did(act.Kill)]

    def running(self, number: int = 1, *nodes: str) -> Story:
        """Loop workers 1 and 2 are in the generation."""
        if not self.state.ready:
            self.hear(facts.Hello(1), facts.Hello(2))
        self.hear(facts.Began(generation(number, *nodes)))
        entered = [facts.Entered(slot.process, number) for slot in self.state.slots]
        self.hear(*entered)
        assert self.did(act.TellRunning) == [act.TellRunning(number)]
        return self

    def with_standby(self, number: int = 1) -> Story:
        """A few steps are done and standby 3 is ready."""
        steps = [
            facts.Stepped(slot.process, number, step)
            for step in (1, 2, 3)
            for slot in self.state.slots
        ]
        self.hear(*steps)
        assert self.did(act.Spawn) == [act.Spawn(3, standby=True)]
        self.hear(facts.Hello(3))
        return self
