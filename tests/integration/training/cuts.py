"""The agent of a job whose collectives are cut at chosen calls, generation after generation."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests import like_nccl
from tests.workers import Message, Worker, Workers
from trainer.job import load

TIMEOUT = 100.0
"""A generation takes a second or two; a cut that nobody gets out of, for ever."""
MODULE = "tests.integration.training.cut_worker"


class Stage:
    """Workers that are like NCCL's, and live through generation after generation."""

    def __init__(self, directory: Path, ranks: int) -> None:
        self._scripts = directory / "scripts"
        self._scripts.mkdir(parents=True)
        command = (sys.executable, "-m", MODULE, str(self._scripts))
        self.node = Workers(ranks, directory / "workers", command)
        self._number = 0
        self.losses: list[tuple[int, float]] = []
        """What the ranks of the last generation told of their steps."""

    def close(self) -> None:
        self.node.__exit__()

    def quiet(self, job: Path) -> tuple[str, list[str]]:
        """Nothing is cut: the hash of the weights, and the place of each call of rank 0."""
        said = self.generation(job, {})
        return hash_of(said), like_nccl.calls(self._scripts, self._number, 0)

    def generation(
        self,
        job: Path,
        cuts: like_nccl.Cuts,
        *,
        seed: object = 0,
        turn: int = 0,
        ranks: int | None = None,
    ) -> list[Message]:
        """How each rank ended, by rank: `finished`, or `left` once the cut has come.

        `turn` is by how many places the workers' ranks are moved on; `ranks` of them take part (by
        default, all).
        """
        node, first = self.node, turn % len(self.node.workers)
        who = [*node.workers[first:], *node.workers[:first]][:ranks]
        deadline = time.monotonic() + TIMEOUT
        for worker in node.workers:
            worker.said.clear()
        self._number = number = self._number + 1
        like_nccl.direct(self._scripts, number, seed, cuts)
        node.enter(number, job, who=who, run_directory=job.parent, staging=_staging(job))
        while not all(_ended(worker) for worker in who):
            assert time.monotonic() < deadline, node.report()
            if any(like_nccl.cut(self._scripts, number, rank) for rank in cuts):
                self._interrupt(who, number, random.Random(f"{seed}/{number}"))
                node.until(lambda: all(_ended(worker) for worker in who))
            node.pump(0.02)
        self.losses = [
            (message["step"], message["loss"])
            for worker in who
            for message in worker.said
            if message["type"] == "step" and "loss" in message
        ]
        return [_ended(worker) or {} for worker in who]

    def _interrupt(self, who: Sequence[Worker], number: int, draw: random.Random) -> None:
        """Each hears of it in its turn, as from agents of several nodes."""
        for worker in draw.sample(list(who), len(who)):
            worker.tell({"type": "interrupt", "generation": number, "reason": "a peer is gone"})


def _staging(job: Path) -> Path | None:
    """Shared memory for mirrors; checkpoints can't go there, as no agent writes them from it."""
    return None if load(job).checkpoint.every else job.parent / "staging"


def _ended(worker: Worker) -> Message | None:
    return worker.last("finished") or worker.last("left") or worker.last("failed")


def scene(place: str, turn: int, how: str, draw: random.Random, ranks: int) -> like_nccl.Cuts:
    """Some rank is cut so at the place; where it is fooled, another has come there to fool it."""
    one, other = draw.sample(range(ranks), 2)
    fool = {other: {place: (turn, "last")}} if how == "fooled" else {}
    return {one: {place: (turn, how)}, **fool}


def hash_of(said: Sequence[Message]) -> str:
    """Of the weights that rank 0 finished with."""
    assert {message["type"] for message in said} == {"finished"}, said
    return str(said[0]["summary"]["weights_sha256"])
