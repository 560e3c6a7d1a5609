"""torchrun's rendezvous over etcd v3 alone: `--rdzv-backend=etcd-v3 --rdzv-endpoint=etcd:2379`."""

from __future__ import annotations

import logging

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousTimeoutError,
)

from rendezvous.address import join_endpoint
from rendezvous.errors import ConfigurationError, StoreError
from rendezvous.etcd import EtcdClient
from rendezvous.torchrun.agent_handler import AgentHandler
from rendezvous.torchrun.member import Closed, Member
from rendezvous.torchrun.records import Keys
from rendezvous.torchrun.rounds import Round
from rendezvous.torchrun.settings import Settings
from rendezvous.torchrun.stores import listen, open_store

log = logging.getLogger(__name__)


def create_handler(parameters: RendezvousParameters) -> EtcdHandler:
    """Raises ValueError for what torchrun was told wrong."""
    try:
        return EtcdHandler(Settings.read(parameters))
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


class EtcdHandler(AgentHandler):
    """Each round has a store of its own, on a socket that its host listens on before
    the round begins; nothing that an earlier round left behind can be read in it."""

    backend = "etcd-v3"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.run_id, settings.address)
        self._settings = settings
        self._client = self.background.call(self._connect())
        keys = Keys(settings.run_id)
        self._member = Member(
            self._client, keys, settings.terms, node=self.node, ttl=settings.lease
        )
        self._round: Round | None = None
        self._store: TCPStore | None = None

    def next_rendezvous(self) -> RendezvousInfo:
        while True:
            with listen(self._settings.address) as listener:
                port = listener.getsockname()[1]
                round = self._join(join_endpoint(self._settings.address, port))
                rank = round.members.index(self.node)
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
            return self.inform(store, round=round.number, rank=rank, world=len(round.members))

    def is_closed(self) -> bool:
        return self._member.closed

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
            self.leave()
        return True

    async def _connect(self) -> EtcdClient:
        settings = self._settings
        return EtcdClient(
            settings.endpoints,
            access=settings.access,
            read_access=settings.read_access,
            learn=settings.learn,
        )

    def _join(self, endpoint: str) -> Round:
        joining = self._member.join(endpoint, timeout=self._settings.join_timeout)
        try:
            return self.background.call(joining)
        except Closed as error:
            raise RendezvousClosedError(f"{self._settings.run_id} is closed") from error
        except TimeoutError as error:
            raise RendezvousTimeoutError(
                f"no round of at least {self._settings.terms.min_nodes} nodes "
                f"within {self._settings.join_timeout:g} s"
            ) from error
        except StoreError as error:
            raise RendezvousConnectionError(str(error)) from error

    async def _close(self) -> None:
        await self._member.close()

    async def _part(self) -> None:
        await self._member.leave()
        await self._client.close()
