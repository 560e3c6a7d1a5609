"""A console that is full, closed, gone or stands still: the run ends as it would have ended."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.integration.launcher.launching import PATIENCE, REMESH, ROOT, Launcher, wait_for
from trainer.telemetry.files import read_lines

JOB = {
    "model": {"preset": "debug"},
    "train": {"steps": 4, "pieces": 2},
    "elastic": {"nproc_per_node": 2},
}
ONCE = "import os, sys; sys.exit(3 if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' else 0)"
WAITING = "import time; open('up', 'w').close(); time.sleep(600)"
TALKING = "for number in range(100000): print('line', number, 'x' * 60)"
XOFF = b"\x13"
"""Ctrl-S."""


@contextmanager
def started(
    launcher: Launcher, *words: str, streams: str = "", **how: Any
) -> Iterator[psutil.Popen]:
    """`remesh run WORDS` with its streams as a shell sets them, in the launcher's folder."""
    command = ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *REMESH, "run", *words]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "OMP_"))}
    quiet = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    process = psutil.Popen(
        command, cwd=launcher.folder, env=kept | {"PYTHONPATH": str(ROOT)}, **(quiet | how)
    )
    try:
        yield process
    finally:
        if process.is_running():
            for each in [process, *process.children(recursive=True)]:
                each.kill()
            process.wait()


def program(launcher: Launcher, text: str) -> str:
    path = launcher.folder / "program.py"
    path.write_text(text)
    return str(path)


def job(launcher: Launcher, **sections: dict[str, Any]) -> str:
    path = launcher.folder / "job.yaml"
    path.write_text(yaml.safe_dump(JOB | sections))
    return str(path)


def steps(folder: Path) -> int:
    return max(
        (sum(1 for _ in read_lines(path)) for path in folder.glob("runs/*/metrics.jsonl")),
        default=0,
    )


def test_a_job_completes_where_nobody_can_read_a_word(launcher: Launcher) -> None:
    with started(launcher, job(launcher), streams=">/dev/full 2>/dev/full") as run:
        assert run.wait(PATIENCE) == 0
    assert steps(launcher.folder) == 4


def test_a_job_completes_though_its_reader_has_gone(launcher: Launcher) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(launcher, job(launcher), stdout=writer, stderr=writer) as run:
        os.close(writer)
        assert run.wait(PATIENCE) == 0
    assert steps(launcher.folder) == 4


def test_a_script_is_started_again_though_that_can_not_be_said(launcher: Launcher) -> None:
    words = ("--max-restarts", "1", program(launcher, ONCE))
    with started(launcher, *words, streams="2>/dev/full") as run:
        assert run.wait(PATIENCE) == 0


@pytest.mark.parametrize("streams", ["2>/dev/full", ">&- 2>&-"])
def test_a_notice_is_obeyed(launcher: Launcher, streams: str) -> None:
    with started(launcher, program(launcher, WAITING), streams=streams) as run:
        wait_for((launcher.folder / "up").exists, "the script runs")
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == 75


def test_much_output_for_a_closed_stream_ends(launcher: Launcher) -> None:
    with started(launcher, program(launcher, TALKING), streams=">&-") as run:
        assert run.wait(PATIENCE) == 0


def test_a_terminal_that_stands_still_stops_nothing(launcher: Launcher) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    talking = job(launcher, train={"steps": 100_000, "pieces": 2})
    with started(launcher, talking, stdin=slave, stdout=slave, stderr=slave) as run:
        os.close(slave)
        wait_for(lambda: steps(launcher.folder) >= 2, "two steps are done")
        # From here on nobody reads, which stops a terminal as Ctrl-S does.
        os.write(master, XOFF)
        before = steps(launcher.folder)
        wait_for(lambda: steps(launcher.folder) >= before + 100, "a hundred steps more")
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == 75
    os.close(master)
