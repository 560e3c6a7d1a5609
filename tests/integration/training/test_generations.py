"""Many generations in the same processes: none costs anything that stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.launching import wait_for
from tests.integration.training.jobs import write_job
from tests.workers import Worker, Workers

GENERATIONS = 100
SETTLED = 10
"""Generations after which a process has all that it keeps."""
GROWTH = 64 << 20
"""Bytes that 90 generations may add: allocators are not exact. A leaked model is 1.5 MB each."""


def interrupt(workers: Sequence[Worker], generation: int) -> None:
    for worker in workers:
        worker.tell({"type": "interrupt", "generation": generation, "reason": "test"})


def test_who_comes_out_of_groups_that_never_formed_meets_a_fresh_process(tmp_path: Path) -> None:
    """1. two ranks wait for a third that never comes; 2. they are interrupted, twice; 3. the next
    generation has a fresh process in it: all find each other."""
    job = write_job(tmp_path, train={"steps": 2, "pieces": 3})
    with Workers(3, tmp_path / "workers") as node:
        fresh, *survivors = node.workers
        for generation in (1, 2):
            node.enter(generation, job, who=[*survivors, Absent()], run_directory=tmp_path)
            wait_for(lambda: all(dials(w) for w in survivors), "they are at the store")
            interrupt(survivors, generation)
            node.until(lambda g=generation: all(_left(w) == g for w in survivors))
        node.enter(3, job, who=[*survivors, fresh], run_directory=tmp_path)
        node.until(lambda: all(w.last("finished") for w in node.workers))


def dials(worker: Worker) -> bool:
    """Whether it has reached the generation's store."""
    connections = psutil.Process(worker.process.pid).net_connections("tcp")
    return any(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


class Absent:
    """A rank whose process never comes."""

    def tell(self, *_: object) -> None: ...


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_generations_leave_nothing_behind(tmp_path: Path) -> None:
    """1. a hundred times: two ranks enter, do some steps, and are interrupted in the middle of
    one; 2. open files, threads, and memory are those of the tenth."""
    job = write_job(tmp_path, train={"steps": 100_000, "pieces": 2}, checkpoint={"every": 0})
    with Workers(2, tmp_path / "workers") as node:
        seen: list[list[tuple[int, int, int]]] = []
        for generation in range(1, GENERATIONS + 1):
            node.enter(generation, job, run_directory=tmp_path)
            node.until(lambda g=generation: all(_stepped(w, g) >= 2 for w in node.workers))
            interrupt(node.workers, generation)
            node.until(lambda g=generation: all(_left(w) == g for w in node.workers))
            for worker in node.workers:
                worker.said.clear()
            seen.append([measure(worker) for worker in node.workers])
    for rank in range(2):
        files, threads, memory = zip(*(row[rank] for row in seen), strict=True)
        assert max(files[SETTLED:]) <= max(files[:SETTLED]), files
        assert max(threads[SETTLED:]) <= max(threads[:SETTLED]), threads
        assert memory[-1] - memory[SETTLED] < GROWTH, memory


def measure(worker: Worker) -> tuple[int, int, int]:
    """Open files, threads, bytes resident."""
    process = psutil.Process(worker.process.pid)
    return process.num_fds(), process.num_threads(), process.memory_info().rss


def _left(worker: Worker) -> int:
    left = worker.last("left")
    return left["generation"] if left else 0


def _stepped(worker: Worker, generation: int) -> int:
    return sum(m["type"] == "step" and m["generation"] == generation for m in worker.said)
