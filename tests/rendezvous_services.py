"""Replicas of the rendezvous service as processes, to be killed and stopped by tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parent.parent
READY = 30.0


class ServiceProcess:
    """`python -m rendezvous serve` on a free loopback port that it keeps over restarts."""

    def __init__(
        self, store: str, log: Path, *, listen: str = "127.0.0.1:0", options: Sequence[str] = ()
    ) -> None:
        self._store, self._log, self._listen = store, log, listen
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.endpoint = ""

    @classmethod
    def start(
        cls, store: str, log: Path, *, listen: str = "127.0.0.1:0", options: Sequence[str] = ()
    ) -> ServiceProcess:
        service = cls(store, log, listen=listen, options=options)
        service.launch()
        service.wait_listening()
        return service

    def launch(self) -> None:
        assert self._process is None, "it runs already"
        command = [sys.executable, "-m", "rendezvous", "serve", "--store", self._store]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--listen", self._listen, *self._options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
            )

    def wait_listening(self) -> None:
        deadline = time.monotonic() + READY
        while True:
            told = re.findall(r"listening on (\S+),", self.log)
            if told:
                self.endpoint = self._listen = told[-1]
                return
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the service did not start: {self.log[-2000:]}")
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Of the processor, since it began."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def running(self) -> bool:
        return self._process is not None

    def restart(self) -> None:
        self.launch()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = True

    def resume(self) -> None:
        if self._stopped and self._process is not None:
            os.kill(self.pid, signal.SIGCONT)
        self._stopped = False

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None, "it does not run"
        self.resume()
        self._process.send_signal(how)
        status = self._process.wait(READY)
        self._process = None
        return status
