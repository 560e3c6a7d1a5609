"""The processes of one measured run: started, killed as a node dies, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

MARK = "REMESH_BENCHMARK"
REPOSITORY = Path(__file__).resolve().parents[2]


class Crew:
    """A context. Whatever its processes started ends with it: all carry one mark in their
    environment."""

    def __init__(self, room: Path, **env: str) -> None:
        room.mkdir(parents=True)
        self.room = room
        self._mark = uuid.uuid4().hex
        self._env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            MARK: self._mark,
            **env,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._marked():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._started:
            started.wait()

    def start(self, name: str, argv: Sequence[str], **env: str) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to `<name>.log` in the room."""
        with (self.room / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**self._env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def someone_ended(self) -> bool:
        """Whether a process that was started here is over."""
        return any(process.poll() is not None for process in self._started)

    def _marked(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found


def kill(pid: int) -> float:
    """SIGKILL one process; when."""
    at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return at


def kill_tree(pid: int) -> float:
    """SIGKILL a process and all below it, as a machine dies: none can tell of another's end."""
    root = psutil.Process(pid)
    tree = [root, *root.children(recursive=True)]
    at = time.monotonic()
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return at


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look again and again until it is true; False when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
