"""Tells a job's story: nodes that beat, and a clock that stops at every deadline."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

from rendezvous.generation import Generation
from rendezvous.membership import (
    Beat,
    DrainAsked,
    Effect,
    Event,
    Finished,
    JobSpec,
    Join,
    Leave,
    Left,
    Listening,
    Membership,
    NewLeader,
    Persist,
    Publish,
    Record,
    Running,
    StreamLost,
    Tick,
    WorkerFailed,
)

E = TypeVar("E")

SPEC = JobSpec(min_nodes=2, max_nodes=4, last_call=1.0, grow_interval=30.0, wait=60.0)
BEAT = 0.25


class Story:
    """`effects` are those of the last act; the whole story is in `told`.

    Nodes in `beating` beat; they listen for the next store at once when a generation begins,
    unless `listens` is False.
    """

    def __init__(self, spec: JobSpec = SPEC, **changes: Any) -> None:
        self.spec = replace(spec, **changes)
        self.membership = Membership(lambda: "a secret")
        self.now = 100.0
        self.told: list[Effect] = []
        self.effects: list[Effect] = []
        self.record: Record | None = None
        self.beating: dict[str, int] = {}
        self.streams: dict[str, int] = {}
        self.listens = True
        self.sockets = 0

    # Acts

    def act(self, event: Event) -> list[Effect]:
        self.effects = []
        self._step(event)
        return self.effects

    def after(self, seconds: float) -> list[Effect]:
        """Time passes; who is alive beats."""
        self.effects = []
        end = self.now + seconds
        beat_at = self.now + BEAT
        while True:
            deadline = self.membership.next_deadline()
            stop = min(end, beat_at, end if deadline is None else deadline)
            self.now = max(self.now, stop)
            if self.now >= end:
                self._step(Tick())
                return self.effects
            if self.now >= beat_at:
                beat_at += BEAT
                for node, incarnation in self.beating.items():
                    self._step(Beat(node=node, incarnation=incarnation))
            else:
                self._step(Tick())

    def join(self, *nodes: str, incarnation: int = 1, slots: int = 2, **more: Any) -> list[Effect]:
        gathered: list[Effect] = []
        for node in nodes:
            self.beating[node] = incarnation
            self.streams[node] = self.streams.get(node, 0) + 1
            event = Join(
                node=node,
                incarnation=incarnation,
                slots=slots,
                host=f"{node}.example",
                store_endpoint=self.socket(node),
                spec=more.pop("spec", self.spec),
                stream=self.streams[node],
                **more,
            )
            gathered += self.act(event)
        self.effects = gathered
        return gathered

    def begin(self, *nodes: str) -> Generation:
        """The nodes join, and their first generation runs."""
        self.join(*nodes)
        self.after(self.spec.last_call)
        self.run()
        return self.generation

    def run(self) -> None:
        """All members enter the generation."""
        for member in self.generation.members:
            self.act(Running(generation=self.number, **self.who(member.node)))

    def cut(self, *nodes: str) -> list[Effect]:
        """The nodes' connections break, and nobody hears of them again."""
        gathered: list[Effect] = []
        for node in nodes:
            incarnation = self.beating.pop(node)
            stream = self.streams[node]
            gathered += self.act(StreamLost(node=node, incarnation=incarnation, stream=stream))
        self.effects = gathered
        return gathered

    def leave_boundary(self, *nodes: str, version: int = 10) -> list[Effect]:
        gathered: list[Effect] = []
        generation = self.number
        for node in nodes:
            event = Left(
                generation=generation,
                version=version,
                store_endpoint=self.socket(node),
                **self.who(node),
            )
            gathered += self.act(event)
        self.effects = gathered
        return gathered

    def fail(self, node: str, rank: int = 0, **more: Any) -> list[Effect]:
        more = {"exit_code": 1, **more} if "signal" not in more else more
        event = WorkerFailed(
            generation=self.number,
            rank=rank,
            store_endpoint=self.socket(node),
            **{**self.who(node), **more},
        )
        return self.act(event)

    def finish(self, *nodes: str, status: str = "completed", whole: bool = False) -> list[Effect]:
        gathered: list[Effect] = []
        for node in nodes:
            event = Finished(generation=self.number, status=status, whole=whole, **self.who(node))
            gathered += self.act(event)
        self.effects = gathered
        return gathered

    def drain(self, node: str, grace: float = 30.0, reason: str = "SIGTERM") -> list[Effect]:
        return self.act(DrainAsked(grace=grace, reason=reason, **self.who(node)))

    def go(self, node: str) -> list[Effect]:
        who = self.who(node)
        del self.beating[node]
        return self.act(Leave(**who))

    def new_leader(self) -> list[Effect]:
        """Another service takes over, with what the store holds; nobody is connected yet."""
        self.membership = Membership(lambda: "a secret")
        text = json.dumps(self.record.to_dict()) if self.record else None
        self.now += 1000.0
        record = Record.from_dict(json.loads(text)) if text else None
        return self.act(NewLeader(record=record))

    # What is to be seen

    @property
    def generation(self) -> Generation:
        assert self.membership.generation is not None
        return self.membership.generation

    @property
    def number(self) -> int:
        return self.generation.number

    @property
    def members(self) -> str:
        return "".join(member.node for member in self.generation.members)

    def saw(self, kind: type[E]) -> list[E]:
        """The effects of one kind in the last act."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def only(self, kind: type[E]) -> E:
        (effect,) = self.saw(kind)
        return effect

    def published(self) -> list[str]:
        """The members of each generation that began in the last act."""
        return [
            "".join(member.node for member in effect.generation.members)
            for effect in self.saw(Publish)
        ]

    def who(self, node: str) -> dict[str, Any]:
        return {"node": node, "incarnation": self.beating[node]}

    def socket(self, node: str) -> str:
        self.sockets += 1
        return f"{node}.example:{self.sockets}"

    def _step(self, event: Event) -> None:
        before = self.membership.generation
        effects = self.membership.step(event, self.now)
        for effect in effects:
            if isinstance(effect, Persist):
                assert effect is effects[0]
                self.record = effect.record
        self.effects += effects
        self.told += effects
        generation = self.membership.generation
        if self.listens and generation is not None and generation is not before:
            for member in generation.members:
                if member.node in self.beating:
                    event = Listening(
                        generation=generation.number,
                        store_endpoint=self.socket(member.node),
                        **self.who(member.node),
                    )
                    self._step(event)
