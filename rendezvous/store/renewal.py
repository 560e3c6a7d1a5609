"""Keeps a leader's lease alive: on its own event loop, or from a thread beside a busy one.

A loop that thousands of agents keep busy may not get to read the store's answer in time, though
all is well with it. A thread with a connection of its own does. But a lease must not outlive what
it stands for, so the thread renews only while the loop shows that it still moves.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Protocol

from rendezvous.errors import LeaseLost, StoreError
from rendezvous.store.port import Renewer, Store
from rendezvous.store.tenure import Tenure
from rendezvous.supervision import start_thread

PAUSE = (0.05, 0.25)
SIGN_OF_LIFE = 0.1
"""Seconds between two signs of life of an event loop."""
STALLS = 2.5
"""A loop that has shown none for so many times the lease is taken for dead."""


class Renewal(Protocol):
    """One lease."""

    @property
    def tenure(self) -> Tenure:
        """How long the lease can be relied on."""
        ...

    async def run(self) -> str:
        """Renew until that fails, and return why; cancelled when the lease is not wanted."""
        ...


class LoopRenewal:
    """On the event loop that runs everything else."""

    def __init__(self, store: Store, lease: int, tenure: Tenure) -> None:
        self.tenure = tenure
        self._store, self._lease = store, lease

    async def run(self) -> str:
        clock = asyncio.get_running_loop().time
        while self.tenure.held(clock()):
            await asyncio.sleep(self.tenure.renew_at - clock())
            while self.tenure.held(clock()) and self.tenure.renew_at <= clock():
                asked = clock()
                try:
                    async with asyncio.timeout(self.tenure.ends - asked):
                        ttl = await self._store.keep_alive(self._lease)
                    self.tenure = Tenure(asked, ttl)
                except LeaseLost as error:
                    return str(error)
                except (StoreError, TimeoutError):
                    await asyncio.sleep(random.uniform(*PAUSE))
        return over(self.tenure, clock(), clock())


def over(tenure: Tenure, alive: float, now: float) -> str:
    """Why the lease is not to be renewed, with the last sign of life at `alive`; empty if it is.

    Pure.
    """
    if now - alive > STALLS * tenure.ttl:
        return f"the event loop has stood still for {now - alive:.1f} s"
    if not tenure.held(now):
        return f"the lease could not be renewed for {now - tenure.asked:.1f} s"
    return ""


class ThreadRenewal:
    """From a thread of its own. For event loops whose time is `time.monotonic`."""

    def __init__(self, renewer: Renewer, lease: int, tenure: Tenure) -> None:
        self.tenure = tenure
        self._renewer, self._lease = renewer, lease
        self._alive = time.monotonic()
        self._stop = threading.Event()
        self._failure = ""

    async def run(self) -> str:
        thread = start_thread(self._renew, name="lease", failed=self._renewal_failed)
        try:
            while thread.is_alive():
                self._alive = time.monotonic()
                await asyncio.sleep(SIGN_OF_LIFE)
        finally:
            self._stop.set()
        return self._failure

    def _renew(self) -> None:
        try:
            self._failure = self._renew_until_it_fails()
        finally:
            self._renewer.close()

    def _renewal_failed(self, error: Exception) -> None:
        self._failure = f"it can't be renewed: {error!r}"

    def _renew_until_it_fails(self) -> str:
        while not self._stop.wait(max(0.0, self.tenure.renew_at - time.monotonic())):
            asked = time.monotonic()
            if reason := over(self.tenure, self._alive, asked):
                return reason
            try:
                ttl = self._renewer.renew(self._lease, self.tenure.ends - asked)
                self.tenure = Tenure(asked, ttl)
            except LeaseLost as error:
                return str(error)
            except StoreError:
                self._stop.wait(random.uniform(*PAUSE))
        return "not wanted any more"
