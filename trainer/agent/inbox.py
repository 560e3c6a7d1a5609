"""What an agent's loop waits for: the next thing that was heard, by whichever way it came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from trainer.agent import facts
from trainer.agent.facts import Fact


@dataclass(slots=True)
class Inbox:
    """Facts in the order in which they were heard."""

    queue: asyncio.Queue[Fact] = field(default_factory=asyncio.Queue)

    def put(self, fact: Fact) -> None:
        self.queue.put_nowait(fact)

    async def get(self, timeout: float) -> Fact:
        """The next fact, or a `Tick` when none came within `timeout` seconds."""
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                return await self.queue.get()
        except TimeoutError:
            return facts.Tick()
