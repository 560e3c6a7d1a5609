"""A training loop that saves once: how much longer it takes than without."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

STEP_SECONDS = 0.25
LEAST_STEPS = 4
SIZE = 320


class Loop:
    """Steps of pure computing, each ending at a barrier, as gradients would be exchanged."""

    def __init__(self) -> None:
        self._a = torch.rand(SIZE, SIZE)
        self._b = torch.rand(SIZE, SIZE)
        self._out = torch.empty(SIZE, SIZE)
        self._work = 50
        seconds = min(self._step() for _ in range(5))
        self._work = max(1, round(self._work * STEP_SECONDS / seconds))
        shared = torch.tensor(self._work)
        dist.broadcast(shared, src=0)
        self._work = int(shared)

    def lost(
        self,
        begin: Callable[[], object],
        land: Callable[[], None] = lambda: None,
        done: Callable[[], bool] = lambda: True,
    ) -> dict[str, float]:
        """Save after a step; seconds lost over all steps until `done`, and seconds in the calls.

        `land` is called before the next step would change the state. A usual step is the mean of
        some before and some after.
        """
        usual = sum(self._step() for _ in range(LEAST_STEPS))
        whole = time.perf_counter()
        self._step()
        blocked = -time.perf_counter()
        begin()
        blocked += time.perf_counter()
        steps = 1
        while True:
            self._step()
            steps += 1
            if steps == 2:
                blocked -= time.perf_counter()
                land()
                blocked += time.perf_counter()
            if steps > LEAST_STEPS and self._all(done()):
                break
        whole = time.perf_counter() - whole
        usual = (usual + sum(self._step() for _ in range(LEAST_STEPS))) / (2 * LEAST_STEPS)
        return {"lost": whole - steps * usual, "blocked": blocked}

    def _step(self) -> float:
        begin = time.perf_counter()
        for _ in range(self._work):
            torch.mm(self._a, self._b, out=self._out)
        dist.barrier()
        return time.perf_counter() - begin

    @staticmethod
    def _all(flag: bool) -> bool:
        shared = torch.tensor(int(flag))
        dist.all_reduce(shared, op=dist.ReduceOp.MIN)
        return bool(shared)
