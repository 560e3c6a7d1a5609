"""Real worker processes without an agent: the test itself speaks the channel to them."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.channel import CHANNEL_VARIABLE, LineBuffer, Message, Outbox

TIMEOUT = 240.0


WORKER = (sys.executable, "-m", "trainer.worker")


class Worker:
    """A worker's process, its end of the channel, and all it said."""

    def __init__(self, log: Path, command: Sequence[str] = WORKER) -> None:
        ours, theirs = socket.socketpair()
        self.channel = ours
        self._outbox = Outbox(ours)
        self.said: list[Message] = []
        self._buffer = LineBuffer()
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    CHANNEL_VARIABLE: str(theirs.fileno()),
                },
                pass_fds=[theirs.fileno()],
                stdout=output,
                stderr=output,
            )
        theirs.close()

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self._outbox.put(message, descriptors)
        self._outbox.flush()

    def read(self) -> bool:
        """Take in what has come; False when the worker is gone."""
        try:
            data = self.channel.recv(1 << 16)
        except ConnectionError:
            return False
        self.said.extend(self._buffer.feed(data))
        return bool(data)

    def last(self, kind: str) -> Message | None:
        return next((m for m in reversed(self.said) if m["type"] == kind), None)


class Workers:
    """A node of `count` workers; a context that leaves no process behind."""

    def __init__(self, count: int, directory: Path, command: Sequence[str] = WORKER) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._command = command
        self.workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self.grow(count)

    def grow(self, count: int) -> None:
        """Start workers until there are `count`."""
        for number in range(len(self.workers), count):
            worker = Worker(self.directory / f"worker{number}.log", self._command)
            self.workers.append(worker)
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.kill()
            worker.process.wait()
            worker.channel.close()
        self._selector.close()

    def enter(
        self,
        generation: int,
        job: Path,
        *,
        who: Sequence[Worker] | None = None,
        reason: str = "test",
        run_directory: Path | None = None,
        staging: Path | None = None,
    ) -> None:
        """Send `who` (everybody, by default) into a generation of one node."""
        who = self.workers if who is None else who
        with socket.create_server(("127.0.0.1", 0), backlog=128) as store:
            for rank, worker in enumerate(who):
                worker.tell(
                    {
                        "type": "enter",
                        "generation": generation,
                        "rank": rank,
                        "local_rank": rank,
                        "group_rank": 0,
                        "world_size": len(who),
                        "local_world_size": len(who),
                        "store": f"127.0.0.1:{store.getsockname()[1]}",
                        "hosts_store": rank == 0,
                        "members": [["node", len(who), "127.0.0.1"]],
                        "reason": reason,
                        "restarts": generation - 1,
                        "job": str(job),
                        "run_directory": str(run_directory or self.directory),
                        "staging": None if staging is None else str(staging),
                    },
                    [store.fileno()] if rank == 0 else [],
                )

    def pump(self, timeout: float) -> None:
        """Read what the workers say for so long, at most. Raises AssertionError for an end."""
        for key, _ in self._selector.select(timeout):
            if not key.data.read():
                self._selector.unregister(key.fileobj)
                raise AssertionError(f"a worker ended early\n{self.report()}")

    def until(self, condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        """Read what the workers say until the condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(self.report())
            for key, _ in ready:
                if not key.data.read():
                    self._selector.unregister(key.fileobj)
                    if not condition():
                        raise AssertionError(f"a worker ended early\n{self.report()}")

    def lost(self, worker: Worker) -> None:
        """One was killed: wait for its end, and read it no more."""
        worker.process.wait(TIMEOUT)
        self._selector.unregister(worker.channel)

    def report(self) -> str:
        return "\n".join(
            f"--- {worker.log.name}: {worker.said[-1:]}\n{worker.log.read_text()[-3000:]}"
            for worker in self.workers
        )


class Pool:
    """Workers that are started once and train one job after another: importing torch is dear."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._workers = Workers(0, directory)
        self._generation = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def train(self, job: Path, ranks: int, *, staging: Path | None = None) -> list[list[Message]]:
        """Run a job to its end in one generation; all that each rank said.

        Mirrors are put into `staging`, where it is given.
        """
        pool = self._workers
        pool.grow(ranks)
        who = pool.workers[:ranks]
        for worker in who:
            worker.said.clear()
        self._generation += 1
        pool.enter(self._generation, job, who=who, run_directory=job.parent, staging=staging)
        pool.until(lambda: all(w.last("finished") or w.last("failed") for w in who))
        failed = [w.last("failed") for w in who if w.last("failed")]
        assert not failed, f"{failed}\n{pool.report()}"
        return [list(worker.said) for worker in who]


def weights(said: list[list[Message]]) -> str:
    """The hash of the weights that rank 0 finished with."""
    return str(said[0][-1]["summary"]["weights_sha256"])
