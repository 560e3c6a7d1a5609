"""Signals as platforms send them: to every process, twice, too early, too late."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.launcher.crew import Crew, committed, job
from tests.integration.launcher.launching import PROGRAMS, REMESH, ROOT, Ended, Launcher, wait_for
from trainer.agent.leaving import SAME_NOTICE_SECONDS
from trainer.signals import LEAVE_SIGNALS
from trainer.telemetry.files import read_json, read_lines

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
CHOICE = ("--signals-to-handle", ",".join(number.name for number in HANDLED))


def events(root: Path, *names: str) -> list[dict[str, Any]]:
    return [record for record in read_lines(root / "events.jsonl") if record["event"] in names]


def steps(root: Path) -> list[int]:
    return [line["step"] for line in read_lines(root / "metrics.jsonl")]


def family(agent: psutil.Popen) -> list[psutil.Process]:
    """All that the agent has started, and what these have."""
    return agent.children(recursive=True)


def send(processes: list[psutil.Process], *numbers: signal.Signals) -> None:
    for process in processes:
        for number in numbers:
            if process.is_running():
                process.send_signal(number)


def endless(**elastic: Any) -> dict[str, Any]:
    """A job that has always more to do, and keeps no mirrors."""
    return job(train={"steps": 100_000}, elastic={"mirror_every": 0, **elastic})


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_in(process: psutil.Process, mask: str, number: int) -> bool:
    """Whether the signal is in one of the masks that the kernel shows of a process."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return bool(int(fields[mask], 16) >> (number - 1) & 1)


def handles(process: psutil.Process, number: int) -> bool:
    return is_in(process, "SigCgt", number)


def blocks(process: psutil.Process, number: int) -> bool:
    return is_in(process, "SigBlk", number)


def standbys(processes: list[psutil.Process], root: Path) -> list[psutil.Process]:
    """Those that are nobody yet: neither workers nor what watches over the agent."""
    begun = {event["pid"] for event in events(root, "worker.begin")}
    return [p for p in processes if p.pid not in begun and "warden.py" not in " ".join(p.cmdline())]


def ranks(root: Path, generation: int) -> dict[int, psutil.Process]:
    """The workers of a generation, by rank."""
    begun = [event for event in events(root, "worker.begin") if event["generation"] == generation]
    return {event["rank"]: psutil.Process(event["pid"]) for event in begun}


def check_left_in_order(ended: Ended, root: Path) -> int:
    """It left with all of its steps, and began nothing after the notice. Returns the last step."""
    assert ended.code == 75, ended.err
    # Before the notice ranks may have been killed, of which their loaders complain.
    assert "Traceback" not in ended.err.partition("leaving in order")[2], ended.err
    last = steps(root)[-1]
    assert committed(root)[0] == last
    names = [e["event"] for e in events(root, "generation.begin", "worker.begin", "node.drain")]
    assert names[-1] == "node.drain", names
    check_ended_well(root)
    return last


def check_ended_well(root: Path) -> None:
    """Since the notice no worker that had a place has ended of anything but its agent's word."""
    notice = events(root, "node.drain")[0]["time"]
    since = [e for e in events(root, "worker.exit") if e["time"] >= notice]
    assert all(event["exit_code"] == 0 for event in since if event["rank"] is not None), since


def test_a_signal_to_every_process_is_one_to_the_agent(launcher: Launcher) -> None:
    """
    1. two workers and a standby; mirrors are off
    2. all signals that the agent handles come to all of them but the agent: they go on
    3. SIGTERM comes to every process: the last step is saved, no generation begins, exit code 75
    4. the next start goes on from there
    """
    crew = Crew(launcher, endless(nodes=1, standby_per_node=1))
    crew.service.terminate()
    command = [*REMESH, "run", "job.yaml", "--rdzv-id", "crew", *CHOICE]
    agent = launcher.start(command)
    wait_for(lambda: len(crew.steps()) >= 4, "four steps are done")
    wait_for(lambda: len(standbys(family(agent), crew.root)) == 1, "the standby is starting")
    before = family(agent)
    wait_for(lambda: all(blocks(p, signal.SIGTERM) for p in before), "compilers would inherit it")
    send(before, *HANDLED)
    count = len(crew.steps())
    crew.reach(count + 3)
    died = crew.events("worker.exit")
    assert died == [], [(event["pid"], event["signal"], event["exit_code"]) for event in died]
    send([agent, *before], signal.SIGTERM)
    last = check_left_in_order(launcher.end(agent), crew.root)
    assert all(map(gone, before))
    ended = launcher([*command, "--set", f"train.stop_at={last + 2}"])
    assert ended.code == 0, ended.err
    begun = crew.events("generation.begin")
    assert [event["generation"] for event in begun] == [1, 2]
    restored = [e for e in crew.events("state.restored") if e["generation"] == 2]
    assert {(event["source"], event["version"]) for event in restored} == {("storage", last)}
    assert crew.steps() == list(range(1, last + 3))
    assert crew.summary()["lost_steps"] == 0


def test_slurms_signal_to_all_nodes_ends_them_together(launcher: Launcher) -> None:
    """SIGUSR1, which the agents were told means `leave`, and SIGTERM, to all of two nodes."""
    crew = Crew(launcher, endless(nodes=2, standby_per_node=0))
    agents = [crew.agent(node, *CHOICE) for node in ("a", "b")]
    crew.reach(4)
    everybody = [process for agent in agents for process in (*family(agent), agent)]
    send(everybody, signal.SIGUSR1, signal.SIGTERM)
    for agent in agents:
        ended = launcher.end(agent)
        assert ended.code == 75, ended.err
    assert committed(crew.root)[0] == crew.steps()[-1]
    assert len(crew.events("generation.begin")) == 1
    check_ended_well(crew.root)


def test_a_loop_whose_data_comes_from_other_processes_is_saved_too(launcher: Launcher) -> None:
    """
    1. two ranks, each with two processes that load its data
    2. rank 1 is killed, and again: the other rank goes on with loaders of the new generation only
    3. SIGTERM and SIGINT come to every process: the last step is saved, exit code 75
    """
    flags = ("--elastic", "--nproc-per-node", "2", "--max-restarts", "9", "--rdzv-id", "r")
    often = ("--set", "elastic.mirror_every=0")
    root = launcher.folder / "runs" / "r"
    agent = launcher.start([*REMESH, "run", *flags, *often, PROGRAMS / "loads_data.py", "100000"])
    everybody: set[psutil.Process] = set()
    for generation in (1, 2, 3):
        wait_for(lambda g=generation: len(ranks(root, g)) == 2, f"generation {generation}")
        before = len(steps(root))
        wait_for(lambda count=before: len(steps(root)) >= count + 5, "five steps are done")
        loop = ranks(root, generation)
        for process in loop.values():
            wait_for(lambda p=process: len(p.children()) == 2, "two processes load a rank's data")
        everybody |= {agent, *family(agent)}
        if generation < 3:
            loop[1].kill()
    send([process for process in everybody if not gone(process)], signal.SIGTERM, signal.SIGINT)
    check_left_in_order(launcher.end(agent), root)
    assert all(map(gone, everybody))
    assert steps(root) == list(range(1, committed(root)[0] + 1))


SAVES = """\
import os, pathlib, signal, sys, time
def leave(*_):
    time.sleep(1.5)
    pathlib.Path("saved").touch()
    sys.exit(0)
signal.signal(signal.SIGINT, leave); signal.signal(signal.SIGTERM, leave)
pathlib.Path("ready").touch()
time.sleep(600)
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_same_notice_twice_is_one(launcher: Launcher, second: signal.Signals) -> None:
    """The terminal sends Ctrl-C to all; a wrapper passes it on, or asks in its own way."""
    (launcher.folder / "saves.py").write_text(SAVES)
    agent = launcher.start([*REMESH, "run", "saves.py"])
    wait_for((launcher.folder / "ready").exists, "the script waits")
    agent.send_signal(signal.SIGINT)
    (root,) = (launcher.folder / "runs").iterdir()
    wait_for(lambda: bool(events(root, "node.drain")), "the first was taken")
    agent.send_signal(second)
    ended = launcher.end(agent)
    assert (launcher.folder / "saved").exists(), ended.err
    assert ended.code == 75
    assert "at once" not in ended.err.replace("or more, ends at once", "")


def test_notice_in_the_first_second_is_taken_in_order(launcher: Launcher) -> None:
    """
    At several moments of a start, the first as soon as Python runs our code: exit code 75 and a
    line. Nothing is left that would be in the way of the next start.
    """
    (launcher.folder / "job.yaml").write_text(
        "model: {preset: debug}\ntrain: {steps: 100000}\nelastic: {nproc_per_node: 2}\n"
    )
    root = launcher.folder / "runs" / "r"
    moments = {
        "listening": lambda agent: handles(agent, signal.SIGTERM),
        "run directory": lambda _: (root / "job.yaml").exists(),
        "workers": lambda agent: len(family(agent)) >= 3,
    }
    for moment, has_come in moments.items():
        agent = launcher.start([*REMESH, "run", "job.yaml", "--rdzv-id", "r"])
        wait_for(lambda come=has_come, agent=agent: come(agent), moment)
        began = family(agent)
        send([agent, *began], signal.SIGTERM)
        ended = launcher.end(agent)
        assert ended.code == 75, (moment, ended)
        assert "Traceback" not in ended.err, (moment, ended)
        assert "SIGTERM" in ended.err
        assert all(map(gone, began)), moment


SLOW_TORCH = """\
import os, pathlib, time
pathlib.Path("asked").write_text(str(os.getpid()))
while not pathlib.Path("answer").exists():
    time.sleep(0.01)
class abacus:
    device_count = staticmethod(lambda: 3)
    is_available = staticmethod(lambda: True)
"""
COUNTS = """\
import sys
from trainer.command import main, slots
slots._accelerator_possible = lambda: True
sys.exit(main(["run", "--nproc-per-node", "abacus", "--no-python", "true"]))
"""


@pytest.mark.parametrize("to_us", [False, True])
def test_who_asks_torch_for_devices_leaves_signals_to_us(launcher: Launcher, to_us: bool) -> None:
    (launcher.folder / "torch.py").write_text(SLOW_TORCH)
    path = f"{ROOT}:{launcher.folder}"
    asks = launcher.start([sys.executable, "-P", "-c", COUNTS], PYTHONPATH=path)
    told = launcher.folder / "asked"
    wait_for(lambda: told.exists() and bool(told.read_text()), "torch is asked")
    answers = psutil.Process(int(told.read_text()))
    send([answers], *LEAVE_SIGNALS)
    if to_us:
        asks.terminate()
    else:
        (launcher.folder / "answer").touch()
    ended = launcher.end(asks)
    assert ended.code == (75 if to_us else 0), ended.err
    assert gone(answers)
    assert "Traceback" not in ended.err


def test_notice_after_the_last_step_changes_nothing(launcher: Launcher) -> None:
    """The last step is done, then the record is closed: signals come all the time, all is kept."""
    (launcher.folder / "job.yaml").write_text(
        "model: {preset: debug}\ntrain: {steps: 3, pieces: 2}\ncompile: {enabled: false}\n"
        "elastic: {nproc_per_node: 2, standby_per_node: 0, mirror_every: 0}\n"
    )
    root = launcher.folder / "runs" / "r"
    agent = launcher.start([*REMESH, "run", "job.yaml", "--rdzv-id", "r"])
    wait_for(lambda: steps(root)[-1:] == [3], "the last step is done")
    deadline = time.monotonic() + SAME_NOTICE_SECONDS / 2
    send([agent, *family(agent)], signal.SIGTERM)
    wait_for(lambda: bool(events(root, "run.end")), "the record is closed")
    while agent.poll() is None:
        number = signal.SIGINT if time.monotonic() < deadline else signal.SIGTERM
        agent.send_signal(number)
        time.sleep(0.005)
    ended = launcher.end(agent)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert committed(root) == [3]
    summary = read_json(root / "summary.json")
    assert summary is not None
    assert summary["status"] == "completed"


FLAG = """\
import multiprocessing, pathlib, signal, subprocess, sys, time
def feed(queue):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        queue.put(1)
        time.sleep(0.01)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
queue = multiprocessing.get_context("fork").Queue(1)
multiprocessing.get_context("fork").Process(target=feed, args=(queue,), daemon=True).start()
helper = subprocess.Popen(["sleep", "600"])
for step in range(100000):
    queue.get(timeout=60)
    if step == 3:
        pathlib.Path("ready").touch()
    if asked:
        asked.append(1)
    if len(asked) > 20:
        alive = helper.poll() is None
        pathlib.Path("saved").write_text(str(alive))
        sys.exit(0)
"""


def test_a_script_that_saves_by_a_handler_keeps_its_children_until_then(launcher: Launcher) -> None:
    (launcher.folder / "flag.py").write_text(FLAG)
    agent = launcher.start([*REMESH, "run", "flag.py"])
    wait_for((launcher.folder / "ready").exists, "some steps are done")
    children = family(agent)
    agent.send_signal(signal.SIGTERM)
    ended = launcher.end(agent)
    assert ended.code == 75
    assert (launcher.folder / "saved").exists(), ended.err
    assert (launcher.folder / "saved").read_text() == "True"
    assert all(map(gone, children))


def test_a_script_that_ends_of_a_signal_to_all_before_the_agent_hears_it(
    launcher: Launcher,
) -> None:
    (launcher.folder / "waits.py").write_text(
        "import pathlib, time; pathlib.Path('ready').touch(); time.sleep(600)"
    )
    agent = launcher.start([*REMESH, "run", "--max-restarts", "0", "waits.py"])
    wait_for((launcher.folder / "ready").exists, "the script waits")
    (script,) = [p for p in agent.children() if "waits.py" in " ".join(p.cmdline())]
    script.terminate()
    wait_for(lambda: gone(script), "it has ended")
    agent.terminate()
    ended = launcher.end(agent)
    assert ended.code == 75, ended.err


def test_what_nohup_ignores_stays_ignored(launcher: Launcher) -> None:
    (launcher.folder / "saves.py").write_text(SAVES)
    agent = launcher.start(["nohup", *REMESH, "run", "saves.py"])
    wait_for((launcher.folder / "ready").exists, "the script waits")
    send([agent, *family(agent)], signal.SIGHUP)
    assert not handles(agent, signal.SIGHUP)
    agent.terminate()
    ended = launcher.end(agent)
    assert ended.code == 75
    assert (launcher.folder / "saved").exists()
    assert "SIGHUP" not in ended.err


def test_a_notice_is_taken_where_no_line_can_be_shown(launcher: Launcher) -> None:
    (launcher.folder / "saves.py").write_text(SAVES)
    onto_a_full_disk = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    agent = launcher.start([*onto_a_full_disk, *REMESH, "run", "saves.py"])
    wait_for((launcher.folder / "ready").exists, "the script waits")
    agent.terminate()
    launcher.end(agent)
    assert (launcher.folder / "saved").exists()


def test_a_script_is_born_with_the_signals_of_any_other_program(launcher: Launcher) -> None:
    """Python ignores SIGPIPE for itself: `yes | head` would complain in a script's children."""
    fields = ("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
    ended = launcher.remesh("--no-python", *fields)
    assert ended.code == 0, ended.err
    # Whoever starts the tests may ignore some, as a shell does for what it runs in the background.
    assert ended.out == launcher(list(fields)).out
