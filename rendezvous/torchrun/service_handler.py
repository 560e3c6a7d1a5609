"""torchrun's rendezvous over our service: `--rdzv-backend=remesh --rdzv-endpoint=host:29400`."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousTimeoutError,
)

from rendezvous.errors import ConfigurationError, RendezvousError
from rendezvous.torchrun.agent_handler import AgentHandler
from rendezvous.torchrun.attendance import Attendance, Closed, Drained, Entry
from rendezvous.torchrun.service_settings import ServiceSettings
from rendezvous.torchrun.stores import open_store

log = logging.getLogger(__name__)

# A signal is heard only between two attempts to reach a store.
ATTEMPT = 5.0


def create_handler(parameters: RendezvousParameters) -> ServiceHandler:
    """Raises ValueError for what torchrun was told wrong."""
    try:
        return ServiceHandler(ServiceSettings.read(parameters))
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


class ServiceHandler(AgentHandler):
    """It joins with the first `next_rendezvous`."""

    backend = "remesh"

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings.run_id, settings.address)
        self._settings = settings
        self._attendance = Attendance(settings, self.node)

    def next_rendezvous(self) -> RendezvousInfo:
        """Raises SystemExit when the node was drained, RendezvousClosedError,
        RendezvousTimeoutError and RendezvousConnectionError."""
        while True:
            entry = self._enter()
            store = entry.store if entry.store is not None else self._reach(entry)
            if store is not None:
                break
        generation = entry.generation
        self.background.call(self._attendance.running(generation.number))
        log.info("generation %d, rank %d: %s", generation.number, entry.rank, generation.reason)
        world = len(generation.members)
        return self.inform(store, round=generation.number, rank=entry.rank, world=world)

    def is_closed(self) -> bool:
        return self._attendance.closed

    def num_nodes_waiting(self) -> int:
        """1 when the agent shall restart its workers in another generation; asks nobody."""
        return int(self._attendance.over() != "")

    def shutdown(self) -> bool:
        """The workers have ended: well, or for good. torchrun does not say which, but calls this
        while the error is on its way. Any other error is this agent's alone."""
        error = sys.exception()
        try:
            if error is None:
                self.background.call(self._attendance.finish())
            elif isinstance(error, ChildFailedError):
                self.background.call(self._attendance.give_up("its workers failed for good"))
        finally:
            self.leave()
        return True

    def _enter(self) -> Entry:
        settings = self._settings
        try:
            return self.background.call(self._attendance.enter())
        except Closed as error:
            raise RendezvousClosedError(f"{settings.run_id}: {error}") from error
        except Drained as error:
            log.warning("%s ends: %s", self._attendance.node, error)
            raise SystemExit(0) from error
        except TimeoutError as error:
            where = f"at {', '.join(settings.endpoints)} for {settings.join_timeout:g} s"
            refusal = self._attendance.refusal
            raise RendezvousTimeoutError(
                f"this node was refused {where}: {refusal}" if refusal else f"no service {where}"
            ) from error
        except (RendezvousError, OSError, RuntimeError) as error:
            raise RendezvousConnectionError(str(error)) from error

    def _reach(self, entry: Entry) -> TCPStore | None:
        """The generation's store; None if there is a newer generation by now."""
        generation = entry.generation
        deadline = time.monotonic() + self._settings.read_timeout
        while True:
            try:
                patience = min(ATTEMPT, self._settings.read_timeout)
                store = open_store(generation.store_endpoint, None, timeout=patience)
            except (DistError, RuntimeError) as error:
                if reason := self._attendance.over():
                    log.warning("generation %d: %s: %s", generation.number, reason, error)
                    return None
                if time.monotonic() >= deadline:
                    raise RendezvousConnectionError(
                        f"generation {generation.number}: no store at "
                        f"{generation.store_endpoint}: {error}"
                    ) from error
                continue
            store.set_timeout(timedelta(seconds=self._settings.read_timeout))
            return store

    async def _close(self) -> None:
        await self._attendance.close()

    async def _part(self) -> None:
        await self._attendance.leave()
