"""torchrun's rendezvous over our service: `--rdzv-backend=remesh --rdzv-endpoint=host:29400`."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import sys
import time
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousTimeoutError,
)

from rendezvous.errors import ConfigurationError, RendezvousError
from rendezvous.torchrun.attendance import FAREWELL, Attendance, Closed, Drained, Entry
from rendezvous.torchrun.background import Background
from rendezvous.torchrun.service_settings import ServiceSettings
from rendezvous.torchrun.stores import agent_store_is_shared, inform, open_store

log = logging.getLogger(__name__)

BACKEND = "remesh"
# A signal is heard only between two attempts to reach a store.
ATTEMPT = 5.0


def create_handler(parameters: RendezvousParameters) -> ServiceHandler:
    """Raises ValueError for what torchrun was told wrong."""
    try:
        return ServiceHandler(ServiceSettings.read(parameters))
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


class ServiceHandler(RendezvousHandler):
    """One agent's. It joins with the first `next_rendezvous`."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._attendance = Attendance(settings, node)
        self._background = Background("rendezvous")
        self._left = False
        # An agent that is told to go says so, and the next generation begins at once.
        atexit.register(self._leave)

    def get_backend(self) -> str:
        return BACKEND

    def get_run_id(self) -> str:
        return self._settings.run_id

    @property
    def use_agent_store(self) -> bool:
        return agent_store_is_shared()

    def next_rendezvous(self) -> RendezvousInfo:
        """Raises SystemExit when the node was drained, RendezvousClosedError,
        RendezvousTimeoutError and RendezvousConnectionError."""
        while True:
            entry = self._enter()
            store = entry.store if entry.store is not None else self._reach(entry)
            if store is not None:
                break
        generation = entry.generation
        self._background.call(self._attendance.running(generation.number))
        log.info("generation %d, rank %d: %s", generation.number, entry.rank, generation.reason)
        return inform(
            store,
            round=generation.number,
            rank=entry.rank,
            world=len(generation.members),
            address=self._settings.address,
        )

    def is_closed(self) -> bool:
        return self._attendance.closed

    def set_closed(self) -> None:
        try:
            self._background.call(self._attendance.close())
        except RendezvousError as error:
            raise RendezvousConnectionError(str(error)) from error

    def num_nodes_waiting(self) -> int:
        """1 when the agent shall restart its workers in another generation; asks nobody."""
        return int(self._attendance.over() != "")

    def shutdown(self) -> bool:
        """The workers have ended: well, or for good. torchrun does not say which, but calls this
        while the error is on its way. Any other error is this agent's alone."""
        error = sys.exception()
        try:
            if error is None:
                self._background.call(self._attendance.finish())
            elif isinstance(error, ChildFailedError):
                self._background.call(self._attendance.give_up("its workers failed for good"))
        finally:
            self._leave()
        return True

    def _enter(self) -> Entry:
        settings = self._settings
        try:
            return self._background.call(self._attendance.enter())
        except Closed as error:
            raise RendezvousClosedError(f"{settings.run_id}: {error}") from error
        except Drained as error:
            log.warning("%s ends: %s", self._attendance.node, error)
            raise SystemExit(0) from error
        except TimeoutError as error:
            raise RendezvousTimeoutError(
                f"no service at {', '.join(settings.endpoints)} for {settings.join_timeout:g} s"
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

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        atexit.unregister(self._leave)
        try:
            self._background.call(self._attendance.leave(), timeout=FAREWELL)
        except TimeoutError:
            log.warning("left without a word: no service answers")
        self._background.close()
