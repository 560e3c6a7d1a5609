"""The same command under torchrun and under `remesh run`: environment, output, exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.integration.launcher.launching import PROGRAMS, Launcher

# Where a free port, a folder or a name is made up, the two can't agree.
MADE_UP = {"MASTER_PORT", "TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RUN_ID"}
# Ours is numeric, and the store is the script's own: a fresh one in every generation.
OTHERWISE = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "False"}
OURS = {"REMESH_AGENT"}
NOT_THE_LAUNCHERS = {"_", "SHLVL", "LC_CTYPE"}


def environments(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]


def seen_by_both(launcher: Launcher, flags: list[str], target: list[str], **env: str) -> None:
    seen = {}
    for name in ("torchrun", "remesh"):
        out = launcher.folder / name
        out.mkdir()
        words = [str(out) if word == "OUT" else word for word in target]
        ended = getattr(launcher, name)(*flags, *words, **env)
        assert ended.code == 0, ended.err
        seen[name] = environments(out)
    assert len(seen["torchrun"]) == len(seen["remesh"]) > 0
    for theirs, ours in zip(seen["torchrun"], seen["remesh"], strict=True):
        assert ours["name"] == theirs["name"]
        assert ours["argv"][1:] == theirs["argv"][1:]
        a, b = theirs["env"], ours["env"]
        assert set(b) - set(a) - NOT_THE_LAUNCHERS <= OURS
        assert set(a) - set(b) - NOT_THE_LAUNCHERS == set()
        differing = {k for k in set(a) & set(b) if a[k] != b[k]} - NOT_THE_LAUNCHERS
        assert differing <= MADE_UP | OTHERWISE.keys(), {k: (a[k], b[k]) for k in differing}
        assert OTHERWISE.items() <= b.items()


SHOW = str(PROGRAMS / "show_environment.py")


@pytest.mark.parametrize(
    ("flags", "target"),
    [
        (["--nproc-per-node", "2"], [SHOW, "OUT", "--lr", "0.1", "-x"]),
        (["--nproc_per_node=2", "--max_restarts=3", "--role", "trainer"], [SHOW, "OUT"]),
        (["--nproc-per-node", "1", "-m"], ["show_environment", "OUT", "${local_rank}"]),
        (["--nproc-per-node", "2", "--virtual-local-rank"], [SHOW, "OUT"]),
        (
            ["--no-python", "--nproc-per-node", "2"],
            [sys.executable, SHOW, "OUT", "${local_rank}"],
        ),
    ],
    ids=["script", "underscores", "module", "virtual", "no-python"],
)
def test_workers_see_the_same_environment(
    launcher: Launcher, flags: list[str], target: list[str]
) -> None:
    seen_by_both(launcher, flags, target)


def test_defaults_come_from_pet_variables(launcher: Launcher) -> None:
    seen_by_both(
        launcher, [], [SHOW, "OUT"], PET_NPROC_PER_NODE="3", PET_MAX_RESTARTS="2", PET_ROLE="r"
    )


# What torch 2.13 aborts with, under any launcher, in up to one DDP script of ten on busy cores: a
# gloo thread drops its last all-reduce after the interpreter has ended, wants the interpreter's
# lock for a Python object in there, and is ended in the middle of a C++ destructor.
TORCHS_ABORT_AT_EXIT = "terminate called without an active exception"
TRIES = 5


def test_a_ddp_script_trains_the_same(launcher: Launcher) -> None:
    results = {}
    for name in ("torchrun", "remesh"):
        for attempt in range(TRIES):
            out = launcher.folder / f"{name}{attempt}"
            out.mkdir()
            run = getattr(launcher, name)
            ended = run("--nproc-per-node", 2, PROGRAMS / "train_ddp.py", out)
            results[name] = [path.read_text() for path in sorted(out.glob("*.txt"))]
            # The script's last words come before: without both of them it is no abort at exit.
            if TORCHS_ABORT_AT_EXIT not in ended.err or len(results[name]) < 2:
                break
        assert ended.code == 0, ended.err
    assert results["remesh"] == results["torchrun"]
    assert len(results["remesh"]) == 2


def test_a_recorded_failure_comes_first_in_the_report(launcher: Launcher) -> None:
    arguments = ("--nproc-per-node", 2, PROGRAMS / "record_raises.py")
    theirs, ours = launcher.torchrun(*arguments), launcher.remesh(*arguments)
    assert ours.code == theirs.code == 1
    # The worker itself writes its traceback to stderr, as under torchrun; then comes the report.
    report = ours.err[ours.err.index("first failure") :]
    lines = report.splitlines()
    assert "rank 1" in lines[0]
    assert "exit code 1" in lines[0]
    assert "Traceback" in report
    assert "ValueError: the second rank has had enough" in report
    assert "then: rank 0" not in ours.err


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_the_exit_code_of_a_failure_is_torchruns(launcher: Launcher, program: str) -> None:
    script = launcher.folder / "program.py"
    script.write_text(program)
    theirs, ours = launcher.torchrun(script), launcher.remesh(script)
    assert ours.code == theirs.code == 1
    how = "exit code 3" if "3" in program else "SIGKILL"
    assert how in ours.err.splitlines()[0]


def test_output_goes_where_torchrun_sends_it(launcher: Launcher) -> None:
    script = launcher.folder / "program.py"
    # Each line in one write: torchrun's workers share its pipe, and may mix smaller ones.
    script.write_text(
        "import os\n"
        "os.write(1, f\"out of {os.environ['RANK']}\\n\".encode())\n"
        "os.write(2, f\"err of {os.environ['RANK']}\\n\".encode())\n"
    )
    cases = {
        (): ({"out of 0", "out of 1"}, {"err of 0", "err of 1"}),
        ("-r", "3"): (set(), set()),
        ("-r", "0:1,1:2"): ({"out of 1"}, {"err of 0"}),
        ("-t", "1"): ({"[default0]:out of 0", "[default1]:out of 1"}, {"err of 0", "err of 1"}),
        ("-r", "3", "-t", "0:2"): (set(), {"[default0]:err of 0"}),
        ("--local-ranks-filter", "1"): ({"out of 1"}, {"err of 1"}),
        ("--local-ranks-filter", "1", "-t", "1:3"): (
            {"[default1]:out of 1"},
            {"[default1]:err of 1"},
        ),
    }
    for number, (flags, (out, err)) in enumerate(cases.items()):
        arguments = ("--nproc-per-node", 2, "--log-dir", launcher.folder / f"logs{number}", *flags)
        for run in (launcher.torchrun, launcher.remesh):
            ended = run(*arguments, script)
            assert ended.code == 0, ended.err
            assert set(ended.out.split("\n")) - {""} == out, (flags, run)
            said = {line for line in ended.err.split("\n") if "err of" in line}
            assert said == err, (flags, run)
        logs = sorted((launcher.folder / f"logs{number}").glob("*/g1/rank?.log"))
        assert [log.read_text().split("\n")[:-1] for log in logs] == [
            ["out of 0", "err of 0"],
            ["out of 1", "err of 1"],
        ] or all("out of" in log.read_text() and "err of" in log.read_text() for log in logs)
        assert len(logs) == 2
