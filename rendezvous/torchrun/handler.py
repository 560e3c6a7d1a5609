"""torchrun's rendezvous over etcd v3 alone: `--rdzv-backend=etcd-v3 --rdzv-endpoint=etcd:2379`."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousTimeoutError,
)

from rendezvous.errors import ConfigurationError, StoreError
from rendezvous.etcd import EtcdClient
from rendezvous.torchrun.background import Background
from rendezvous.torchrun.member import Closed, Member
from rendezvous.torchrun.records import Keys
from rendezvous.torchrun.rounds import Round
from rendezvous.torchrun.settings import Settings
from rendezvous.torchrun.stores import agent_store_is_shared, inform, listen, open_store

log = logging.getLogger(__name__)

BACKEND = "etcd-v3"
FAREWELL = 5.0


def create_handler(parameters: RendezvousParameters) -> EtcdHandler:
    """Raises ValueError for what torchrun was told wrong."""
    try:
        return EtcdHandler(Settings.read(parameters))
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


class EtcdHandler(RendezvousHandler):
    """One agent's. Each round has a store of its own, on a socket that its host listens on before
    the round begins; nothing that an earlier round left behind can be read in it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._background = Background("rendezvous")
        self._client = self._background.call(self._connect())
        keys = Keys(settings.run_id)
        self._member = Member(
            self._client, keys, settings.terms, node=self._node, ttl=settings.lease
        )
        self._round: Round | None = None
        self._store: TCPStore | None = None
        self._left = False
        # An agent that is told to go says so; or the others would have to wait for its lease.
        atexit.register(self._leave)

    def get_backend(self) -> str:
        return BACKEND

    def get_run_id(self) -> str:
        return self._settings.run_id

    @property
    def use_agent_store(self) -> bool:
        return agent_store_is_shared()

    def next_rendezvous(self) -> RendezvousInfo:
        while True:
            with listen() as listener:
                round = self._join(f"{self._settings.address}:{listener.getsockname()[1]}")
                rank = round.members.index(self._node)
                try:
                    store = open_store(
                        round.store,
                        listener if rank == 0 else None,
                        timeout=self._settings.read_timeout,
                    )
                except (DistError, RuntimeError) as error:
                    if reason := self._member.over(round):
                        log.warning("round %d: %s: %s", round.number, reason, error)
                        continue
                    raise RendezvousConnectionError(
                        f"round {round.number}: no store at {round.store}: {error}"
                    ) from error
            self._round, self._store = round, store
            log.info("round %d, rank %d: %s", round.number, rank, round.reason)
            return inform(
                store,
                round=round.number,
                rank=rank,
                world=len(round.members),
                address=self._settings.address,
            )

    def is_closed(self) -> bool:
        return self._member.closed

    def set_closed(self) -> None:
        try:
            self._background.call(self._member.close())
        except StoreError as error:
            raise RendezvousConnectionError(str(error)) from error

    def num_nodes_waiting(self) -> int:
        """1 when the agent shall restart its workers in another round; asks nobody."""
        return int(self._round is not None and self._member.over(self._round) != "")

    def shutdown(self) -> bool:
        try:
            self.set_closed()
        except RendezvousConnectionError as error:
            log.warning("could not close the rendezvous: %s", error)
            return False
        finally:
            self._leave()
        return True

    async def _connect(self) -> EtcdClient:
        return EtcdClient(self._settings.endpoints, access=self._settings.access)

    def _join(self, endpoint: str) -> Round:
        joining = self._member.join(endpoint, timeout=self._settings.join_timeout)
        try:
            return self._background.call(joining)
        except Closed as error:
            raise RendezvousClosedError(f"{self._settings.run_id} is closed") from error
        except TimeoutError as error:
            raise RendezvousTimeoutError(
                f"no round of at least {self._settings.terms.min_nodes} nodes "
                f"within {self._settings.join_timeout:g} s"
            ) from error
        except StoreError as error:
            raise RendezvousConnectionError(str(error)) from error

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        atexit.unregister(self._leave)
        try:
            self._background.call(self._part(), timeout=FAREWELL)
        except TimeoutError:
            log.warning("left without a word: etcd does not answer")
        self._background.close()

    async def _part(self) -> None:
        await self._member.leave()
        await self._client.close()
