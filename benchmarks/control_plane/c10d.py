"""N simulated agents of torchrun's own rendezvous, as threads in a few processes.

Run as a program it is one of these processes: it takes a JSON object a line on its standard input
and answers each with one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PROCESSES = 2


class Crowd:
    """All the processes; `measure` gives seconds and messages of two rounds."""

    def __init__(self) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.control_plane.c10d"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
                # With the shared store on, whoever joins a later round waits for an address
                # that nobody publishes any more.
                env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            )
            for _ in range(PROCESSES)
        ]
        self._port = int(self._ask(self._processes[0], {"do": "serve"})["port"])

    def measure(self, size: int, patience: float) -> dict[str, Any]:
        """The first round of `size` agents, and the next one after one of them has left and
        another has come in its place: nothing is waited for but the protocol itself."""
        run = {"run": f"{size}-{time.time_ns()}", "port": self._port, "max": size}
        shares = [size // PROCESSES + (i < size % PROCESSES) for i in range(PROCESSES)]
        rounds = []
        for number in (1, 2):
            for process, share in zip(self._processes, shares, strict=True):
                self._say(process, {"do": "round", **run, "share": share, "round": number,
                                    "replace": process is self._processes[0],
                                    "patience": patience})  # fmt: skip
            told = [self._hear(process) for process in self._processes]
            finished = all(answer["finished"] for answer in told)
            rounds.append(
                {
                    "seconds": max(a["ended"] for a in told) - min(a["began"] for a in told)
                    if finished
                    else None,
                    "reads": sum(a["reads"] for a in told),
                    "writes": sum(a["writes"] for a in told),
                    "failed_writes": sum(a["failed"] for a in told),
                }
            )
            if not finished:
                break
        return {"first": rounds[0], "after_loss": rounds[1] if len(rounds) > 1 else None}

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _ask(self, process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
        self._say(process, request)
        return self._hear(process)

    def _say(self, process: subprocess.Popen[str], request: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()

    def _hear(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer


def _main() -> None:
    from datetime import timedelta

    from torch.distributed import TCPStore
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import (
        C10dRendezvousBackend,
    )
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
        DynamicRendezvousHandler,
        RendezvousTimeout,
        _RendezvousExitOp,
    )

    count = {"reads": 0, "writes": 0, "failed": 0}
    lock = threading.Lock()

    class Counted(C10dRendezvousBackend):
        def get_state(self) -> Any:
            with lock:
                count["reads"] += 1
            return super().get_state()

        def set_state(self, state: bytes, token: Any = None) -> Any:
            answer = super().set_state(state, token)
            with lock:
                count["writes"] += 1
                count["failed"] += not (answer is not None and answer[2])
            return answer

    def agent(request: dict[str, Any]) -> DynamicRendezvousHandler:
        store = TCPStore(
            "127.0.0.1", request["port"], is_master=False, timeout=timedelta(seconds=600)
        )
        size = request["max"]
        timeout = RendezvousTimeout(join=timedelta(seconds=600), last_call=timedelta(seconds=600))
        backend = Counted(store, request["run"])
        return DynamicRendezvousHandler.from_backend(
            request["run"], store, backend, max(1, size // 2), size, "127.0.0.1", timeout
        )

    server: Any = None
    agents: list[DynamicRendezvousHandler] = []
    run = ""
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "serve":
            server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            sys.stdout.write(json.dumps({"port": server.port}) + "\n")
            sys.stdout.flush()
            continue
        count.update(reads=0, writes=0, failed=0)
        if request["run"] != run:
            for former in agents:
                former._stop_heartbeats()
            run, agents = request["run"], [agent(request) for _ in range(request["share"])]
        elif request["replace"]:
            gone = agents.pop()
            gone._op_executor.run(_RendezvousExitOp(), time.monotonic() + 60)
            gone._stop_heartbeats()
            agents.append(agent(request))
        threads = [threading.Thread(target=a.next_rendezvous, daemon=True) for a in agents]
        began = time.time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, began + request["patience"] - time.time()))
        finished = not any(thread.is_alive() for thread in threads)
        answer = {"began": began, "ended": time.time(), "finished": finished, **count}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
