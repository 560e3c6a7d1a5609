"""How an agent hears that its machine is about to go."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from trainer.agent.launch import Probe
from trainer.agent.probe import notice


async def test_a_file_that_appears(tmp_path: Path) -> None:
    file = tmp_path / "notice"
    looking = asyncio.create_task(notice(Probe(file=file, every=0.01)))
    done, _ = await asyncio.wait([looking], timeout=0.1)
    assert not done
    file.touch()
    assert str(file) in await looking


async def test_a_command_that_says_yes(tmp_path: Path) -> None:
    file = tmp_path / "notice"
    probe = Probe(command=("test", "-e", str(file)), every=0.01)
    looking = asyncio.create_task(notice(probe))
    done, _ = await asyncio.wait([looking], timeout=0.2)
    assert not done
    file.touch()
    assert "test says" in await looking


async def test_a_command_that_is_missing_or_slow_says_no() -> None:
    for command in (("no-such-command-at-all",), ("sleep", "600")):
        looking = asyncio.create_task(notice(Probe(command=command, every=0.01, patience=0.05)))
        done, _ = await asyncio.wait([looking], timeout=0.3)
        assert not done
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking


def test_a_job_with_an_entrypoint_is_drained_by_its_probe(launcher: Launcher) -> None:
    (launcher.folder / "wait.py").write_text(
        "import time, pathlib; pathlib.Path('ready').touch(); time.sleep(600)"
    )
    (launcher.folder / "job.yaml").write_text(
        "entrypoint: {script: wait.py}\n"
        "elastic: {nproc_per_node: 1, probe: {file: going, every: 0.1}}\n"
    )
    process = launcher.start([*REMESH, "run", "job.yaml"])
    wait_for((launcher.folder / "ready").exists, "the script runs")
    (launcher.folder / "going").touch()
    ended = launcher.end(process)
    assert ended.code == 75, ended.err
    assert "going has appeared" in ended.err


def test_signals_are_as_the_user_chose(launcher: Launcher) -> None:
    (launcher.folder / "wait.py").write_text(
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (pathlib.Path('usr1').touch(), sys.exit(0)))\n"
        "pathlib.Path('ready').touch(); time.sleep(600)"
    )
    process = launcher.start([*REMESH, "run", "--signals-to-handle", "SIGUSR1", "wait.py"])
    wait_for((launcher.folder / "ready").exists, "the script runs")
    process.send_signal(signal.SIGUSR1)
    assert launcher.end(process).code == 75
    assert (launcher.folder / "usr1").exists()
