"""Starting launchers as a user would, and ending all of it by pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[3]
REMESH = [sys.executable, "-m", "trainer.command"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
PATIENCE = 240.0


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Launcher:
    """Runs commands in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[psutil.Popen] = []

    def start(self, command: list[str], **env: str) -> psutil.Popen:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "OMP_"))}
        process = psutil.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            env=kept | {"PYTHONPATH": f"{ROOT}:{PROGRAMS}"} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def end(self, process: psutil.Popen, patience: float = PATIENCE) -> Ended:
        out, err = process.communicate(timeout=patience)
        return Ended(process.returncode, out, err)

    def __call__(self, command: list[str], **env: str) -> Ended:
        return self.end(self.start(command, **env))

    def remesh(self, *arguments: object, **env: str) -> Ended:
        return self([*REMESH, "run", *map(str, arguments)], **env)

    def torchrun(self, *arguments: object, **env: str) -> Ended:
        return self([*TORCHRUN, *map(str, arguments)], **env)

    def run_directory(self) -> Path:
        (found,) = (self.folder / "runs").iterdir()
        return found

    def close(self) -> None:
        for process in self._started:
            if process.is_running():
                family = [process, *process.children(recursive=True)]
                for member in family:
                    try:
                        member.kill()
                    except psutil.NoSuchProcess:
                        continue
                process.communicate()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
