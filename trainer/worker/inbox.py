"""What the agent says to this worker, and how it reaches a main thread that is busy or blocked.

A thread reads the channel. Orders to enter or exit wait in a queue; an interrupt strikes at
once, through the `Interruption` of the generation that is running; a boundary is a flag that
the step reads; what became of saves is asked for at the end. When the agent is gone, so is this
process.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from typing import Any

from trainer.channel import Message, WorkerEnd
from trainer.supervision import start_thread
from trainer.worker.ballot import Wish
from trainer.worker.interrupt import Interruption
from trainer.worker.saves import SaveReports

ORPHANED_EXIT_CODE = 70


@dataclass(frozen=True, slots=True)
class Enter:
    """Take rank `rank` of `world_size` in this generation; see trainer/channel.py."""

    message: Message
    store_socket: int | None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.message[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def node(self) -> str:
        """The node this worker is on."""
        return str(self.message["members"][self.message["group_rank"]][0])

    @property
    def nodes(self) -> list[str]:
        """The node of each global rank."""
        return [str(node) for node, slots, _host in self.message["members"] for _ in range(slots)]

    @property
    def local_ranks(self) -> range:
        """The global ranks of this node."""
        first = self.message["rank"] - self.message["local_rank"]
        return range(first, first + self.message["local_world_size"])


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process; everything is done."""


class Inbox:
    """Reads the channel in a thread of its own."""

    def __init__(self, channel: WorkerEnd) -> None:
        self.channel = channel
        self._orders: queue.Queue[Enter | Exit] = queue.Queue()
        self._lock = threading.Lock()
        self._interruption: Interruption | None = None
        self._left: list[Interruption] = []
        self._over: tuple[int, str] = (0, "")
        self._boundary: tuple[int, str, bool] = (0, "", False)
        self._stop: tuple[int, str] = (0, "")
        """The last generation in which the whole job was to stop, and why."""
        self.saves = SaveReports()
        start_thread(self._listen, name="inbox", failed=_orphaned)

    def next_order(self) -> Enter | Exit:
        """Block until the agent says what to do next."""
        return self._orders.get()

    def put_back(self, order: Exit) -> None:
        """Let the next who asks hear it."""
        self._orders.put(order)

    def attach(self, interruption: Interruption) -> None:
        """From now on an interrupt of this generation strikes; one that came before, at once."""
        with self._lock:
            self._interruption = interruption
            generation, reason = self._over
        if generation >= interruption.generation:
            interruption.strike(reason)

    def detach(self) -> None:
        """The generation was left. Others may still be in it, so its connections stay open."""
        with self._lock:
            if self._interruption is not None:
                self._left.append(self._interruption)
            self._interruption = None

    def all_met(self) -> None:
        """The next generation's groups stand: nobody is in an earlier one any more."""
        with self._lock:
            left, self._left = self._left, []
        for interruption in left:
            interruption.release()

    def leave_reason(self, generation: int) -> str | None:
        """Why this generation should end at the next step boundary, or None."""
        asked, reason, _ = self._boundary
        return reason if asked >= generation else None

    def stop_reason(self, generation: int) -> str:
        """Why the job stops at the next step boundary; empty where only the generation ends."""
        asked, reason = self._stop
        return reason if asked >= generation else ""

    def wish(self, generation: int) -> Wish:
        """What the agent has asked for at the next step boundary."""
        asked, _, save = self._boundary
        return Wish(leave=True, save=save) if asked >= generation else Wish()

    def _listen(self) -> None:
        for message, descriptors in self.channel.receive():
            match message["type"]:
                case "enter":
                    self._orders.put(Enter(message, descriptors[0] if descriptors else None))
                case "exit":
                    self._orders.put(Exit())
                case "boundary":
                    self._boundary = (
                        message["generation"],
                        message["reason"],
                        bool(message.get("save")),
                    )
                    if message.get("stop"):
                        self._stop = message["generation"], message["reason"]
                case "saved":
                    self.saves.heard(message["version"], message["error"])
                case "interrupt":
                    self._interrupt(message["generation"], message["reason"])
        _orphaned()

    def _interrupt(self, generation: int, reason: str) -> None:
        with self._lock:
            self._over = (generation, reason)
            interruption = self._interruption
        if interruption is not None and interruption.generation <= generation:
            interruption.strike(reason)


def _orphaned(_error: Exception | None = None) -> None:
    """A worker that can't hear its agent ends: nobody would know that it is there."""
    os._exit(ORPHANED_EXIT_CODE)
