"""What both backends are to torchrun's agent: a node with a loop of its own, and a farewell."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
from abc import abstractmethod
from typing import ClassVar

from torch._C._distributed_c10d import TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
)

from rendezvous.errors import RendezvousError
from rendezvous.torchrun.background import Background
from rendezvous.torchrun.stores import agent_store_is_shared, inform

log = logging.getLogger(__name__)

FAREWELL = 5.0


class AgentHandler(RendezvousHandler):
    """One agent's. What it does on the network it does in `background`."""

    backend: ClassVar[str]

    def __init__(self, run_id: str, address: str) -> None:
        self.node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.background = Background("rendezvous")
        self._run_id, self._address = run_id, address
        self._left = False
        # An agent that is told to go says so; or the others would have to find out.
        atexit.register(self.leave)

    def get_backend(self) -> str:
        return self.backend

    def get_run_id(self) -> str:
        return self._run_id

    @property
    def use_agent_store(self) -> bool:
        return agent_store_is_shared()

    def set_closed(self) -> None:
        try:
            self.background.call(self._close())
        except RendezvousError as error:
            raise RendezvousConnectionError(str(error)) from error

    def leave(self) -> None:
        """Once, with a word to the others if that can be had within `FAREWELL` seconds."""
        if self._left:
            return
        self._left = True
        atexit.unregister(self.leave)
        try:
            self.background.call(self._part(), timeout=FAREWELL)
        except TimeoutError:
            log.warning("left without a word: nobody answers")
        self.background.close()

    def inform(self, store: TCPStore, *, round: int, rank: int, world: int) -> RendezvousInfo:
        """What torchrun is told of a round. `rank` counts agents, of which there are `world`."""
        return inform(store, round=round, rank=rank, world=world, address=self._address)

    @abstractmethod
    async def _close(self) -> None:
        """Let nobody join any more."""

    @abstractmethod
    async def _part(self) -> None:
        """Say goodbye and let go of connections."""
