"""What a script's run leaves behind: generations, logs, no orphans, clear refusals."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.launching import PROGRAMS, REMESH, Launcher, wait_for
from trainer.agent.leaving import SAME_NOTICE_SECONDS
from trainer.telemetry.files import read_lines


def events(root: Path, name: str) -> list[dict]:
    return [record for record in read_lines(root / "events.jsonl") if record["event"] == name]


def pids(folder: Path, ranks: int) -> list[int]:
    found: list[int] = []

    def all_there() -> bool:
        files = sorted(folder.glob("*.pids"))
        found[:] = [int(pid) for path in files for pid in path.read_text().split()]
        return len(files) == ranks

    wait_for(all_there, "every rank has written its pids")
    return found


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_failed_worker_restarts_all_with_a_store_of_their_own(launcher: Launcher) -> None:
    ended = launcher.remesh(
        "--nproc-per-node", 2, "--max-restarts", 1, PROGRAMS / "fails_first.py", launcher.folder
    )
    assert ended.code == 0, ended.err
    seen = {path.stem: path.read_text().split() for path in launcher.folder.glob("attempt*.txt")}
    assert sorted(seen) == [
        "attempt0-rank0",
        "attempt0-rank1",
        "attempt1-rank0",
        "attempt1-rank1",
    ]
    assert {world for world, _port in seen.values()} == {"2"}
    assert seen["attempt0-rank0"][1] != seen["attempt1-rank0"][1]
    root = launcher.run_directory()
    began = events(root, "generation.begin")
    assert [record["generation"] for record in began] == [1, 2]
    assert began[1]["restarts"] == 1
    first = {r["rank"]: r for r in events(root, "worker.exit") if r["generation"] == 1}
    assert first[1]["exit_code"] == 7
    assert not first[1]["expected"]
    assert first[0]["expected"]
    summary = json.loads((root / "summary.json").read_text())
    assert (summary["status"], summary["generations"], summary["restarts"]) == ("completed", 2, 1)
    assert {path.parent.name for path in (root / "logs").glob("*/rank1.log")} == {"g1", "g2"}


def test_restarts_end(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text("import sys; print('before'); sys.exit(5)")
    ended = launcher.remesh("--max-restarts", 2, script)
    assert ended.code == 1
    root = launcher.run_directory()
    assert len(events(root, "generation.begin")) == 3
    assert "exit code 5" in ended.err[ended.err.index("first failure") :].splitlines()[0]
    assert json.loads((root / "summary.json").read_text())["status"] == "failed"
    assert (root / "logs" / "g3" / "rank0.log").read_text() == "before\n"


@pytest.mark.parametrize("how", ["agent killed", "worker killed"])
def test_nothing_outlives_its_parent(launcher: Launcher, how: str) -> None:
    process = launcher.start(
        [*REMESH, "run", "--nproc-per-node", "2", PROGRAMS / "begets.py", launcher.folder]
    )
    family = pids(launcher.folder, 2)
    if how == "agent killed":
        process.kill()
        wait_for(lambda: all(gone(pid) for pid in family), "the agent's whole family is gone")
        return
    psutil.Process(family[0]).kill()
    ended = launcher.end(process)
    assert ended.code == 1
    assert "SIGKILL" in ended.err
    # A child in a session of its own is out of the reach of a group's kill; the rest is not.
    assert all(gone(pid) for pid in (family[0], family[1], family[3], family[4]))
    for pid in (family[2], family[5]):
        if not gone(pid):
            psutil.Process(pid).kill()


def test_notice_ends_the_workers_and_the_code_is_75(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text(
        "import os, signal, sys, time, pathlib\n"
        "def leave(*_):\n"
        "    pathlib.Path('saved').write_text('x'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "pathlib.Path('ready').write_text('x')\n"
        "time.sleep(600)\n"
    )
    process = launcher.start([*REMESH, "run", script])
    wait_for((launcher.folder / "ready").exists, "the worker waits for its signal")
    process.send_signal(signal.SIGTERM)
    ended = launcher.end(process)
    assert ended.code == 75, ended.err
    assert (launcher.folder / "saved").exists()


def test_a_second_notice_ends_at_once(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text(
        "import signal, time, pathlib\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "pathlib.Path('ready').write_text('x')\n"
        "time.sleep(600)\n"
    )
    process = launcher.start([*REMESH, "run", script])
    wait_for((launcher.folder / "ready").exists, "the worker waits")
    began = time.monotonic()
    while process.poll() is None:  # a person who presses Ctrl-C until it is over
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert time.monotonic() - began >= SAME_NOTICE_SECONDS
    ended = launcher.end(process)
    assert ended.code == 75
    assert "SIGINT again: ending at once" in ended.err


def test_wrong_usage_is_one_line_and_leaves_nothing(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text("print('never')")
    taken = socket.socket()
    taken.bind(("", 0))
    taken.listen()
    cases = {
        "no such file": ["nothing.py"],
        "no such program": ["--no-python", "no-such-program-at-all"],
        "--nnodes": ["--nnodes", "3:1", script],
        "need a place to meet": ["--nnodes", "2", script],
        "--nproc-per-node": ["--nproc-per-node", "lots!", script],
        "no such device": ["--nproc-per-node", "gpu", script],
        "--redirects": ["-r", "7", script],
        "can't be used": ["--master-port", taken.getsockname()[1], script],
        "exclude each other": ["--no-python", "-m", script],
        "belongs to a job file": ["--set", "a.b=1", script],
        "HOST:PORT": ["--rdzv-endpoint", "host:port", script],
        "invalid choice": ["--start-method", "teleport", script],
    }
    if any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd")):
        del cases["no such device"]
    for words, arguments in cases.items():
        ended = launcher.remesh(*arguments)
        assert ended.code == 2, (words, ended)
        assert words in ended.err, ended.err
        assert "Traceback" not in ended.err
        assert "never" not in ended.out
    taken.close()
    assert not (launcher.folder / "runs").exists()


def test_a_directory_that_cannot_be_made_is_refused(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text("print('never')")
    (launcher.folder / "file").write_text("")
    ended = launcher.remesh("--run-directory", launcher.folder / "file", script)
    assert ended.code == 2
    assert "can't be written" in ended.err
    assert "never" not in ended.out


def test_a_run_belongs_to_its_job_and_to_one_launch(launcher: Launcher) -> None:
    script, other = launcher.folder / "program.py", launcher.folder / "other.py"
    script.write_text("import sys; sys.exit(0)")
    other.write_text("print('never')")
    assert launcher.remesh("--rdzv-id", "r1", script).code == 0
    assert launcher.remesh("--rdzv-id", "r1", script).code == 0
    root = launcher.folder / "runs" / "r1"
    assert [record["resumed"] for record in events(root, "run.begin")] == [False, True]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    ended = launcher.remesh("--rdzv-id", "r1", other)
    assert ended.code == 2
    assert "another run" in ended.err
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    waits = launcher.folder / "waits.py"
    waits.write_text("import time, pathlib; pathlib.Path('ready').touch(); time.sleep(600)")
    process = launcher.start([*REMESH, "run", "--rdzv-id", "r2", waits])
    wait_for((launcher.folder / "ready").exists, "the first launch runs")
    ended = launcher.remesh("--rdzv-id", "r2", waits)
    assert ended.code == 2
    assert "going on in another process" in ended.err
    process.send_signal(signal.SIGTERM)
    assert launcher.end(process).code == 75


def test_status_tells_of_a_run_that_goes_on(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    script.write_text("import time, pathlib; pathlib.Path('ready').touch(); time.sleep(600)")
    process = launcher.start([*REMESH, "run", "--nproc-per-node", "2", script])
    wait_for((launcher.folder / "ready").exists, "the workers run")
    root = launcher.run_directory()

    def shown() -> dict:
        ended = launcher([*REMESH, "status", "--json"])
        return json.loads(ended.out) if ended.code == 0 else {}

    wait_for(lambda: len(shown().get("workers", ())) == 2, "the status shows both workers")
    status = shown()
    assert [worker["rank"] for worker in status["workers"]] == [0, 1]
    assert all(psutil.pid_exists(worker["pid"]) for worker in status["workers"])
    assert status["agents"][0]["pid"] == process.pid
    plain = launcher([*REMESH, "status", root])
    assert "rank    1  running" in plain.out
    process.send_signal(signal.SIGTERM)
    assert launcher.end(process).code == 75
