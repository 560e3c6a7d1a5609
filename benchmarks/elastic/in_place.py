"""Systems whose survivors go on in their processes with fewer replicas: NVRx and torchft."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.elastic.crew import free_port, kill, kill_tree
from benchmarks.elastic.job import RANKS, RANKS_PER_NODE
from benchmarks.elastic.system import PEERS, System


class Nvrx(System):
    """NVRx's in-process wrapper. The dead rank is left out; none can come back or leave."""

    events = ("worker", "loss")

    def start(self) -> None:
        port = free_port()
        self._ranks = [
            self.crew.start(
                f"rank{rank}",
                [self.python, str(PEERS / "nvrx_ddp.py"), str(self.job), str(self.crew.room)],
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(RANKS),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )
            for rank in range(RANKS)
        ]

    def kill_worker(self) -> float:
        return kill(self._ranks[-1].pid)

    def kill_node(self) -> float:
        return min(kill_tree(rank.pid) for rank in self._ranks[-RANKS_PER_NODE:])


class Torchft(System):
    """torchft: each rank is a replica of its own, so that any may go and come."""

    events = ("worker", "loss", "return")
    lease_ms = 1000
    """As long as Remesh believes in a silent node."""

    def start(self) -> None:
        self._port = free_port()
        self.crew.start(
            "lighthouse",
            [
                str(Path(self.python).with_name("torchft_lighthouse")),
                f"--bind=127.0.0.1:{self._port}",
                "--min_replicas=1",
                "--join_timeout_ms=1000",
                f"--heartbeat_timeout_ms={self.lease_ms}",
            ],
        )
        self._ranks = [self._replica(number) for number in range(RANKS)]

    def _replica(self, number: int) -> subprocess.Popen[bytes]:
        script = [str(PEERS / "torchft_ddp.py"), str(self.job), str(self.crew.room)]
        return self.crew.start(
            f"replica{number}",
            [self.python, *script, f"replica{number}"],
            TORCHFT_LIGHTHOUSE=f"http://127.0.0.1:{self._port}",
        )

    def kill_worker(self) -> float:
        return kill(self._ranks[-1].pid)

    def kill_node(self) -> float:
        return min(kill_tree(rank.pid) for rank in self._ranks[-RANKS_PER_NODE:])

    def return_node(self) -> None:
        for number in range(RANKS - RANKS_PER_NODE, RANKS):
            self._ranks[number] = self._replica(number)
