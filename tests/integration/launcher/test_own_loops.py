"""Training loops of users' own under kills: the same weights, in the same processes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.launcher.launching import PROGRAMS, REMESH, ROOT, Launcher, wait_for
from trainer.telemetry.files import read_json, read_lines

EXAMPLE = ROOT / "examples" / "elastic_loop.py"
STEPS = 30
FLAGS = ("--elastic", "--nproc-per-node", "2", "--max-restarts", "9", "--rdzv-id", "r")


def events(root: Path, name: str) -> list[dict]:
    return [record for record in read_lines(root / "events.jsonl") if record["event"] == name]


def steps(root: Path) -> list[int]:
    return [line["step"] for line in read_lines(root / "metrics.jsonl")]


def pids(root: Path, generation: int) -> dict[int, int]:
    begun = [e for e in events(root, "worker.begin") if e["generation"] == generation]
    return {event["rank"]: event["pid"] for event in begun}


def summary(root: Path) -> dict:
    found = read_json(root / "summary.json")
    assert found is not None
    assert found["status"] == "completed"
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sha256 of the example's weights when nothing happens."""
    launcher = Launcher(tmp_path_factory.mktemp("undisturbed"))
    ended = launcher.remesh(*FLAGS, EXAMPLE, "--steps", STEPS)
    assert ended.code == 0, ended.err
    assert "step 20 loss" in ended.out
    root = launcher.run_directory()
    assert steps(root) == list(range(1, STEPS + 1))
    losses = [line["loss"] for line in read_lines(root / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    yield summary(root)["weights_sha256"]
    launcher.close()


def test_a_killed_rank_is_replaced_and_the_others_stay(
    launcher: Launcher, undisturbed: str
) -> None:
    root = launcher.folder / "runs" / "r"
    often = ("--set", "elastic.mirror_every=2")
    process = launcher.start([*REMESH, "run", *FLAGS, *often, EXAMPLE, "--steps", str(STEPS)])
    wait_for(lambda: len(steps(root)) >= 6, "six steps are done")
    before = pids(root, 1)
    psutil.Process(before[1]).kill()
    ended = launcher.end(process)
    assert ended.code == 0, ended.err
    after = pids(root, 2)
    assert after[0] == before[0] or after[1] == before[0]
    assert before[1] not in after.values()
    assert {event["source"] for event in events(root, "state.restored")} == {"init", "mirror"}
    assert steps(root) == list(range(1, STEPS + 1))
    assert summary(root)["weights_sha256"] == undisturbed


@pytest.mark.slow
def test_a_death_at_any_point_of_a_step_costs_no_bits(launcher: Launcher, undisturbed: str) -> None:
    points = {6: "before-backward", 11: "before-norm", 16: "after-norm", 21: "after-apply"}
    faults = [
        word
        for turn, (step, point) in enumerate(points.items())
        for word in ("--fault", f"kind=kill,step={step},rank={turn % 2},point={point}")
    ]
    often = ("--set", "elastic.mirror_every=1")
    ended = launcher.remesh(*FLAGS, *often, *faults, EXAMPLE, "--steps", STEPS)
    assert ended.code == 0, ended.err
    root = launcher.run_directory()
    found = summary(root)
    assert found["generations"] == 1 + len(points)
    assert found["weights_sha256"] == undisturbed
    assert found["lost_steps"] <= len(points)
    assert steps(root) == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_rank_in_doubt_ends_its_step_when_another_has(launcher: Launcher) -> None:
    flags = (*FLAGS, "--nproc-per-node", "3", "--set", "elastic.mirror_every=0")
    program = PROGRAMS / "doubtful.py"
    for name in ("quiet", "doubt"):
        (launcher.folder / name).mkdir()
        ended = launcher.remesh(*flags, "--rdzv-id", name, program, launcher.folder / name, name)
        assert ended.code == 0, ended.err
    root = launcher.folder / "runs" / "doubt"
    survivors = {pids(root, 1)[0], pids(root, 1)[1]}
    noted = {path.name.partition("pid")[2] for path in (launcher.folder / "doubt").glob("step7-*")}
    assert noted == {str(pid) for pid in survivors}
    restored = [e for e in events(root, "state.restored") if e["generation"] == 2]
    assert {(e["source"], e["version"]) for e in restored} == {("peers", 8)}
    assert summary(root)["lost_steps"] == 0
    quiet = summary(launcher.folder / "runs" / "quiet")
    assert summary(root)["weights_sha256"] == quiet["weights_sha256"]


@pytest.mark.slow
def test_notice_saves_what_was_handed_over_and_the_next_start_resumes(
    launcher: Launcher, undisturbed: str
) -> None:
    root = launcher.folder / "runs" / "r"
    command = [*REMESH, "run", *FLAGS, EXAMPLE, "--steps", str(STEPS)]
    process = launcher.start(command)
    wait_for(lambda: len(steps(root)) >= 6, "six steps are done")
    process.send_signal(signal.SIGTERM)
    assert launcher.end(process).code == 75
    ended = launcher.end(launcher.start(command))
    assert ended.code == 0, ended.err
    assert summary(root)["weights_sha256"] == undisturbed
    assert summary(root)["lost_steps"] == 0
    assert "storage" in {event["source"] for event in events(root, "state.restored")}


JOB = f"""\
entrypoint: {{script: {EXAMPLE}, elastic: true, args: [--steps, "{STEPS}"]}}
elastic: {{nodes: 2, nproc_per_node: 1, beat_timeout: 10, reconnect_grace: 3}}
"""


@pytest.mark.slow
def test_a_job_on_two_nodes_survives_the_death_of_a_rank(
    launcher: Launcher, undisturbed: str
) -> None:
    (launcher.folder / "job.yaml").write_text(JOB)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    service = ["rendezvous", "serve", "--store", "memory", "--listen", endpoint]
    launcher.start([*REMESH, *service])
    where = ("--rdzv-endpoint", endpoint, "--rdzv-id", "r")
    agents = [
        launcher.start([*REMESH, "run", "job.yaml", "--node", node, *where]) for node in ("a", "b")
    ]
    root = launcher.folder / "runs" / "r"
    wait_for(lambda: len(steps(root)) >= 6, "six steps are done")
    before = pids(root, 1)
    psutil.Process(before[1]).kill()
    ended = [launcher.end(agent) for agent in agents]
    assert [e.code for e in ended] == [0, 0], [e.err for e in ended]
    assert before[0] in pids(root, 2).values()
    assert summary(root)["weights_sha256"] == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "remesh without --elastic"])
def test_the_same_script_runs_anywhere(launcher: Launcher, how: str) -> None:
    arguments = (EXAMPLE, "--steps", 20)
    if how == "torchrun":
        ended = launcher.torchrun("--nproc-per-node", 2, *arguments)
    else:
        ended = launcher.remesh("--nproc-per-node", 2, *arguments)
    assert ended.code == 0, ended.err
    assert "step 20 loss" in ended.out
