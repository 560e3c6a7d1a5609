"""Loops that leave the wrapping of their model to a library, which asks the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.launcher.launching import PROGRAMS, Launcher
from trainer.telemetry.files import read_json, read_lines

PROGRAM = PROGRAMS / "asks_environment.py"
FLAGS = ("--elastic", "--nproc-per-node", "2", "--max-restarts", "9", "--rdzv-id", "r")
SHELL = {"RANK": "7", "WORLD_SIZE": "9", "MASTER_PORT": "1", "PMI_SIZE": "4", "SLURM_PROCID": "3"}
"""Whoever starts the launcher may be a rank of something else."""


@pytest.fixture
def folder(launcher: Launcher) -> Path:
    made = launcher.folder / "seen"
    made.mkdir()
    return made


def train(launcher: Launcher, folder: Path, *words: str) -> dict:
    ended = launcher.remesh(*FLAGS, *words, PROGRAM, folder, **SHELL)
    assert ended.code == 0, ended.err
    summary = read_json(launcher.run_directory() / "summary.json")
    assert summary is not None
    # Of the batch norm's statistics each rank has its own, which is told once.
    told = [e for e in events(launcher) if e["event"] == "replicas.differ"]
    assert [(e["rank"], e["ranks"]) for e in told] == [(0, [0, 1])]
    assert told[0]["names"] == ["model/module.1.running_mean", "model/module.1.running_var"]
    return summary


def events(launcher: Launcher) -> list[dict]:
    return read_lines(launcher.run_directory() / "events.jsonl")


def test_a_library_finds_the_other_ranks_in_every_generation(
    launcher: Launcher, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    quiet = Launcher(tmp_path_factory.mktemp("quiet"))
    (quiet.folder / "seen").mkdir()
    undisturbed = train(quiet, quiet.folder / "seen")
    kill = ("--fault", "kind=kill,step=6,rank=1", "--set", "elastic.mirror_every=2")
    disturbed = train(launcher, folder, *kill)
    assert disturbed["generations"] == 2
    assert disturbed["weights_sha256"] == undisturbed["weights_sha256"]
    for generation in (1, 2):
        ports = set()
        for rank in range(2):
            seen = json.loads((folder / f"g{generation}-rank{rank}.json").read_text())
            env = seen["env"]
            assert seen["at_import"] == []
            assert seen["run"] == [rank, rank, 2]
            assert (env["RANK"], env["LOCAL_RANK"], env["WORLD_SIZE"]) == (
                str(rank),
                str(rank),
                "2",
            )
            assert env["LOCAL_WORLD_SIZE"] == "2"
            assert env["TORCHELASTIC_RUN_ID"] == "r"
            assert not {"PMI_SIZE", "SLURM_PROCID"} & env.keys()
            # A store answers there, and is the same for all.
            assert seen["torch"] == [rank, 2, ["hello", "hello"]]
            ports.add(env["MASTER_PORT"])
        assert len(ports) == 1


def test_a_loop_in_which_each_rank_trains_by_itself_ends_with_its_first_step(
    launcher: Launcher, folder: Path
) -> None:
    ended = launcher.remesh(*FLAGS, PROGRAM, folder, "forgets", **SHELL)
    assert ended.code == 1
    told = next(line for line in ended.err.splitlines() if line.startswith("remesh: failed:"))
    assert "differ between ranks 0 and 1 after step 1" in told
    assert "model/0." in told
    assert "is the model wrapped?" in told
    root = launcher.run_directory()
    summary = read_json(root / "summary.json")
    assert summary is not None
    assert (summary["status"], summary["weights_sha256"]) == ("failed", None)
    assert (summary["generations"], summary["restarts"]) == (1, 0)
    # Nothing of it may be resumed.
    assert not list((root / "checkpoints").glob("data/*"))
    assert [line["step"] for line in read_lines(root / "metrics.jsonl")] == [1]
