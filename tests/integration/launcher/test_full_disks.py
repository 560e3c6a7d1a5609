"""Disks that are full: what a run does, says, and leaves on them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.integration.launcher.crew import Crew, committed, job
from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from tests.small_disks import needs_small_disks, on_small_disks
from trainer.checkpoint import log
from trainer.checkpoint.manifest import Summary
from trainer.checkpoint.store import LocalStore
from trainer.telemetry.files import read_lines

pytestmark = needs_small_disks


def run_on(launcher: Launcher, size: str, **sections: dict) -> tuple[int, str, Path]:
    """A run of one node whose checkpoints lie on a disk of this size; exit code, the last line,
    and a copy of the disk as it was at the end."""
    described = job(elastic={"nodes": "1"}, run={"id": "r"}, **sections)
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(described))
    disk, left = launcher.folder / "runs" / "r" / "checkpoints", launcher.folder / "left"
    disk.mkdir(parents=True)
    left.mkdir()
    command = on_small_disks([*REMESH, "run", "job.yaml"], {disk: size}, copied={disk: left})
    ended = launcher.end(launcher.start(command))
    return ended.code, (ended.err.splitlines() or [""])[-1], left


def failed(launcher: Launcher) -> list[int]:
    events = read_lines(launcher.folder / "runs" / "r" / "events.jsonl")
    return sorted({e["version"] for e in events if e["event"] == "checkpoint.failed"})


def test_a_disk_without_room_for_one_checkpoint_is_left_empty(launcher: Launcher) -> None:
    """One takes 13 MB."""
    code, last, left = run_on(launcher, "10m", train={"steps": 6}, checkpoint={"every": 2})
    assert code == 1
    assert "6 steps are done, but version 6 is not saved: " in last
    assert "the disk is full: free some of it, or keep fewer checkpoints" in last
    assert failed(launcher) == [2, 4, 6]
    assert list((left / "data").iterdir()) == []


def test_two_are_kept_on_a_disk_for_two_and_a_half(launcher: Launcher) -> None:
    """The oldest goes before the next is written, as it would go after it."""
    checkpoint = {"every": 2, "keep": 2}
    code, _, left = run_on(launcher, "33m", train={"steps": 8}, checkpoint=checkpoint)
    assert code == 0
    assert failed(launcher) == []
    found = log.summaries(LocalStore(left))
    assert [summary.version for _, summary in found if isinstance(summary, Summary)] == [8, 6]
    assert len(list((left / "data").iterdir())) == 2


def test_a_run_whose_record_has_no_room_goes_on(launcher: Launcher) -> None:
    """Its checkpoints are elsewhere; a few pages of the run directory's disk are free: what can't
    be written is said, and the training is done."""
    described = job(
        train={"steps": 6},
        elastic={"nodes": "1"},
        run={"id": "r"},
        checkpoint={"every": 3, "directory": str(launcher.folder / "checkpoints")},
    )
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(described))
    disk = launcher.folder / "runs" / "r"
    disk.mkdir(parents=True)
    ended = launcher.end(launcher.start(on_small_disks([*REMESH, "run", "job.yaml"], {disk: "8k"})))
    assert ended.code == 0, ended.err
    assert "completed after 6 steps" in ended.out
    assert "the run's record can't be written: [Errno 28] No space left on device" in ended.err
    assert "the run's record in " in ended.err
    assert " entries: [Errno 28] No space left on device" in ended.err
    assert "Traceback" not in ended.err
    assert committed(launcher.folder)[0] == 6


def test_a_run_that_has_no_room_for_its_job_is_not_begun(launcher: Launcher) -> None:
    described = job(elastic={"nodes": "1"}, run={"id": "r"})
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(described))
    disk = launcher.folder / "runs" / "r"
    disk.mkdir(parents=True)
    full = [
        "sh",
        "-c",
        f"head -c 8192 /dev/zero > '{disk}/other'; exec \"$@\"",
        "sh",
        *REMESH,
        "run",
        "job.yaml",
    ]
    ended = launcher.end(launcher.start(on_small_disks(full, {disk: "8k"})))
    assert ended.code == 2, ended.err
    assert ended.err.splitlines()[-1].endswith(
        f"the run directory {disk} can't be written (No space left on device); free some room "
        "there, or choose another with run.directory or --run-directory"
    )
    assert "Traceback" not in ended.err


def crew_of_two(launcher: Launcher, steps: int, size: str) -> tuple[Crew, dict[str, psutil.Popen]]:
    """Nodes a and b, of one rank each, that save every fourth step; what b writes of a checkpoint
    goes to a disk of its own, where a finds nothing of it."""
    elastic = {"nodes": "1:2", "nproc_per_node": 1, "last_call": 30}
    described = job(train={"steps": steps}, checkpoint={"every": 4}, elastic=elastic)
    crew = Crew(launcher, described)
    data = crew.root / "checkpoints" / "data"
    data.mkdir(parents=True)
    first = crew.agent("a")
    second = launcher.start(on_small_disks(crew.agent_command("b"), {data: size}))
    return crew, {"a": first, "b": second}


@pytest.mark.slow
def test_of_two_nodes_one_has_a_full_disk(launcher: Launcher) -> None:
    """b can neither write its part nor say so where a looks for it: the run ends all the same once
    its steps are done, with the reason on both screens."""
    crew, agents = crew_of_two(launcher, 8, "4k")
    ended = {node: launcher.end(agent) for node, agent in agents.items()}
    for node, end in ended.items():
        assert end.code == 1, (node, end.err)
        last = end.err.splitlines()[-1]
        assert "8 steps are done, but version 8 is not saved: rank " in last
        assert "the disk is full" in last
        assert "there is no checkpoint" in last
    assert crew.summary()["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("drained", [False, True])
def test_a_node_is_lost_and_never_wrote_its_part(launcher: Launcher, drained: bool) -> None:
    """
    1. version 4 waits for the part of the node that is not first: it never comes
    2. that node is killed: the save is over, and the other goes on from what is saved
    3. all steps are done, or it is told to leave: it saves and ends, long before anybody would
       stop waiting for that part
    """
    crew, agents = crew_of_two(launcher, 2000 if drained else 24, "100m")
    crew.await_members("a", "b")
    crew.reach(5)
    first = crew.members()[0][0]
    (lost,) = {"a", "b"} - {first}
    for process in [*agents[lost].children(recursive=True), agents[lost]]:
        process.kill()
    crew.await_members(first)
    before = max(crew.steps())
    wait_for(lambda: bool(crew.events("checkpoint.failed")), "the save is over")
    failed = crew.events("checkpoint.failed")[0]
    assert failed["error"] == f"node {lost} was lost with the part of rank 1"
    if drained:
        wait_for(lambda: max(crew.steps()) > before, "what was lost is done again")
        agents[first].send_signal(signal.SIGTERM)
    began = time.monotonic()
    ended = launcher.end(agents[first])
    assert ended.code == (75 if drained else 0), ended.err
    assert time.monotonic() - began < 120, "the part's patience alone is 600 s"
    assert committed(crew.root)[0] == max(crew.steps())
