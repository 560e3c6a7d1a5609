"""Kills, stops, drains, full disks, short descriptors and lost packets in one run, by a seed each.

REMESH_SEEDS is how many there are, REMESH_SEED the first.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.chaos.training.crew import Crew, undisturbed
from tests.chaos.training.shared_disk import SharedDisk
from tests.integration.launcher.launching import Ended, Launcher, wait_for
from tests.proxy import Proxy
from tests.small_disks import needs_small_disks
from trainer.telemetry.files import read_json, read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_small_disks]

SEEDS = int(os.environ.get("REMESH_SEEDS", 30))
FIRST = int(os.environ.get("REMESH_SEED", 0))
STEPS = 90
LAST_FAULT = STEPS - 30
"""The step before which the last fault strikes: what it takes is given back before the end."""
FAULTS = 4
SPARE_DESCRIPTORS = 3
"""At most so many more than it has may a process open while they are short."""
DRAINED = 75
SHELF = "remesh-stage-"
STANDSTILL = 30.0
"""Seconds without a step: longer than any recovery takes here."""
RECORD_LACKS = re.compile(r"the run's record in \S+ lacks (\d+) entries")
"""What the name of an agent's shared memory begins with; its process follows."""
JOB = f"""\
model: {{preset: debug}}
data: {{seq_len: 32}}
train: {{steps: {STEPS}, pieces: 4, clip: 1.0}}
elastic:
  mirror_every: 5
  last_call: 60
  grow_interval: 0.5
  beat_timeout: 3
  reconnect_grace: 1
  hang_timeout: 5
  interrupt_timeout: 2
  max_restarts: 100
  node_failures: 100
checkpoint: {{every: 10, keep: 2, directory: disk}}
compile: {{enabled: false}}
"""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the job that nothing happens to."""
    return str(undisturbed(tmp_path_factory.mktemp("calm"), job=JOB)["weights_sha256"])


class Night:
    """A run of two nodes, and what happens to it. `told` is what has happened so far."""

    def __init__(
        self, crew: Crew, wire: Proxy, disk: SharedDisk, loop: asyncio.AbstractEventLoop, seed: int
    ) -> None:
        self._crew = crew
        self._wire = wire
        self._disk = disk
        self._loop = loop
        self._draw = random.Random(seed)
        self._amends: list[Callable[[], object]] = []
        """What undoes the faults that last."""
        self.told = [f"REMESH_SEED={seed}"]

    def start(self, node: str) -> None:
        """Node b reaches the rendezvous over the wire."""
        self._crew.start(node, endpoint=self._wire.endpoint if node == "b" else None)

    def pass_by(self) -> None:
        """All faults, until the run is left to itself."""
        for node in "ab":
            self.start(node)
        self._crew.reach(2)
        for number in range(1, FAULTS + 1):
            step = self._draw.randrange(LAST_FAULT * number // FAULTS)
            self._reach(max(step, self._crew.step))
            self._make_amends(chance=0.5)
            self._bring_back()
            self.told.append(f"step {self._crew.step}: {self._strike()}")
        self._reach(min(self._crew.step + self._draw.randrange(6), LAST_FAULT))
        self._make_amends(chance=1.0)
        self._bring_back()

    def _reach(self, step: int) -> None:
        """Or until all have ended, or nobody is left who could tell of a step: both nodes may be
        struck by something that lasts."""
        seen, since = self._crew.step, time.monotonic()
        while self._crew.step < step and not self._all_have_ended():
            if self._crew.step > seen:
                seen, since = self._crew.step, time.monotonic()
            if self._amends and time.monotonic() - since > STANDSTILL:
                self.told.append(f"step {seen}: nothing moves any more")
                return
            time.sleep(0.05)

    def _all_have_ended(self) -> bool:
        return all(agent.poll() is not None for agent in self._crew.agents.values())

    def _bring_back(self) -> None:
        """What has left is started again, as a supervisor does."""
        for node in "ab":
            agent = self._crew.agents.get(node)
            if agent is not None and agent.poll() is not None:
                self.told.append(f"{node} has left: {told_well(self._crew.see_off(node))}")
            if node not in self._crew.agents:
                self.start(node)

    def _make_amends(self, *, chance: float) -> None:
        if self._amends and self._draw.random() < chance:
            for undo in self._amends:
                undo()
            self._amends.clear()
            self.told.append(f"step {self._crew.step}: what lasted is over")

    def _strike(self) -> str:
        kinds: list[Callable[[], str]] = [
            self._kill_workers,
            self._stop_worker,
            self._kill_node,
            self._drain_node,
            self._freeze_node,
            self._lose_packets,
            self._cut_the_wire,
            self._fill_the_disk,
            self._take_descriptors,
        ]
        return self._draw.choice(kinds)()

    def _kill_workers(self) -> str:
        workers = self._crew.workers()
        ranks = self._draw.sample(sorted(workers), min(len(workers), self._draw.randint(1, 2)))
        for rank in ranks:
            with suppress(psutil.NoSuchProcess):
                workers[rank].kill()
        return f"killed ranks {ranks}"

    def _stop_worker(self) -> str:
        workers = self._crew.workers()
        if not workers:
            return "nobody to stop"
        rank = self._draw.choice(sorted(workers))
        with suppress(psutil.NoSuchProcess):
            workers[rank].suspend()
        return f"stopped rank {rank}"

    def _kill_node(self) -> str:
        node = self._draw.choice(sorted(self._crew.agents))
        for process in self._crew.agents[node].children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._crew.kill_node(node)
        return f"killed {node}"

    def _drain_node(self) -> str:
        node = self._draw.choice(sorted(self._crew.agents))
        self._crew.agents[node].terminate()
        return f"told {node} to leave"

    def _freeze_node(self) -> str:
        node = self._draw.choice(sorted(self._crew.agents))
        agent = self._crew.agents[node]
        agent.suspend()
        self._amends.append(agent.resume)
        return f"stopped the agent of {node}"

    def _lose_packets(self) -> str:
        self._loop.call_soon_threadsafe(self._wire.freeze)
        self._amends.append(lambda: self._loop.call_soon_threadsafe(self._wire.heal))
        return "b's packets are lost"

    def _cut_the_wire(self) -> str:
        self._loop.call_soon_threadsafe(self._wire.cut)
        self._amends.append(lambda: self._loop.call_soon_threadsafe(self._wire.heal))
        return "b is refused"

    def _fill_the_disk(self) -> str:
        self._disk.fill()
        self._amends.append(self._disk.free)
        return "the disk is full"

    def _take_descriptors(self) -> str:
        """Of an agent or a worker."""
        victims: list[psutil.Process] = [
            *self._crew.agents.values(),
            *self._crew.workers().values(),
        ]
        victim = self._draw.choice(victims)
        spare = self._draw.randint(0, SPARE_DESCRIPTORS)
        with suppress(psutil.NoSuchProcess):
            before = victim.rlimit(resource.RLIMIT_NOFILE)
            victim.rlimit(resource.RLIMIT_NOFILE, (victim.num_fds() + spare, before[1]))
            self._amends.append(lambda: give_back(victim, before))
        return f"process {victim.pid} may open {spare} files more"


def give_back(process: psutil.Process, limits: tuple[int, int]) -> None:
    with suppress(psutil.NoSuchProcess):
        process.rlimit(resource.RLIMIT_NOFILE, limits)


def told_well(ended: Ended) -> str:
    """The last line of an agent that has ended other than well: it says why, in one line."""
    if ended.code == 0:
        return "done"
    assert ended.code in (1, DRAINED, -9), ended.err
    assert "Traceback" not in ended.err, ended.err
    last = (ended.err.splitlines() or [""])[-1]
    assert ended.code == -9 or len(last) > len("remesh: "), ended.err
    return f"{ended.code}: {last}"


def check(crew: Crew, night: Night, calm: str) -> None:
    """Every agent has ended, and the run with the calm one's weights or a clear line."""
    for node in sorted(crew.agents):
        ended = crew.see_off(node)
        night.told.append(f"{node} ended: {told_well(ended)}")
        crew.ended[node] = ended
    summary = read_json(crew.root / "summary.json")
    if any(ended.code == 0 for ended in crew.ended.values()):
        assert summary is not None
        assert (summary["status"], summary["weights_sha256"]) == ("completed", calm)
        counted = [line["step"] for line in read_lines(crew.root / "metrics.jsonl")]
        lacks = [RECORD_LACKS.search(ended.err) for ended in crew.ended.values()]
        if any(lacks):  # Who could open no file, or had no room, has said what is missing.
            assert counted == sorted(set(counted))
            assert len(counted) >= STEPS - sum(int(found[1]) for found in lacks if found)
        else:
            assert counted == list(range(1, STEPS + 1))
    crew.check_nothing_is_left()


@needs_small_disks
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
async def test_a_night_of_everything(launcher: Launcher, calm: str, seed: int) -> None:
    """1. two nodes of two ranks; four faults of random kinds, some of which last until amends are
    made; 2. the run ends in the calm one's weights, or in a line that says why it does not;
    3. no process, no shared memory and no descriptor of the service is left."""
    with SharedDisk(launcher.folder / "disk", "60m") as disk:
        crew = Crew(launcher, job=JOB, on=lambda argv: disk.seen_by(argv, launcher.folder))
        pids = crew.pids
        async with Proxy(crew.endpoint) as wire:
            night = Night(crew, wire, disk, asyncio.get_running_loop(), seed)
            try:
                await asyncio.to_thread(night.pass_by)
                await asyncio.to_thread(check, crew, night, calm)
            finally:
                print(*night.told, crew.story(), sep="\n")
        left = [path.name for path in Path("/dev/shm").glob(f"{SHELF}*") if owner(path) in pids]
        assert not left
        wait_for(lambda: not crew.connections(), "the service has closed what agents had open")


def owner(shelf: Path) -> int | None:
    """The process that made it, by its name."""
    number = shelf.name.removeprefix(SHELF).split("-")[0]
    return int(number) if number.isdigit() else None
