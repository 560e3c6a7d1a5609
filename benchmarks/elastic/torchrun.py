"""torchrun with its c10d rendezvous, the store in the first node's agent."""

from __future__ import annotations

import signal
import subprocess
import time

from benchmarks.elastic.crew import free_port, kill, kill_tree
from benchmarks.elastic.job import NODES, RANKS, RANKS_PER_NODE
from benchmarks.elastic.system import PEERS, System

NO_SHARED_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""With the shared store restarted workers read the keys of the attempt before, and hang."""


class Torchrun(System):
    """As it comes, but for the shared store."""

    conf = ""

    def start(self) -> None:
        self._endpoint = f"127.0.0.1:{free_port()}"
        self._agents = [self._agent("first", hosts=True), self._agent("second", hosts=False)]

    def _agent(self, name: str, *, hosts: bool) -> subprocess.Popen[bytes]:
        conf = ",".join(filter(None, [f"is_host={hosts}".lower(), self.conf]))
        command = [self.python, "-m", "torch.distributed.run", f"--nnodes=1:{NODES}"]
        command += [f"--nproc-per-node={RANKS_PER_NODE}", "--max-restarts=100", "--rdzv-id=run"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={self._endpoint}"]
        command += [f"--rdzv-conf={conf}", "--local-addr=127.0.0.1"]
        script = [str(PEERS / "torchrun_fsdp2.py"), str(self.job), str(self.crew.room)]
        return self.crew.start(name, [*command, *script], **NO_SHARED_STORE)

    def kill_worker(self) -> float:
        return kill(self._pids()[RANKS - 1])

    def kill_node(self) -> float:
        return kill_tree(self._agents[1].pid)

    def return_node(self) -> None:
        self._agents[1] = self._agent("second", hosts=False)

    def drain_node(self) -> float:
        at = time.monotonic()
        self._agents[1].send_signal(signal.SIGTERM)
        return at


class TunedTorchrun(Torchrun):
    """With the shortest timers that one would dare."""

    conf = "last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"
