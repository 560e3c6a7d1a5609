"""Processes that end before they are ready: what they wrote is shown, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.launcher.launching import ROOT, Ended, Launcher
from trainer.telemetry.files import read_lines

JOB = {
    "model": {"preset": "debug"},
    "train": {"steps": 2, "pieces": 2},
    "elastic": {"nproc_per_node": 2},
}


def with_torch(launcher: Launcher, torch: str) -> Ended:
    """Run a job where `import torch` does this."""
    (launcher.folder / "torch").mkdir()
    (launcher.folder / "torch" / "__init__.py").write_text(torch)
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(JOB))
    return launcher.remesh("job.yaml", PYTHONPATH=f"{launcher.folder}:{ROOT}")


def kept(launcher: Launcher) -> list[str]:
    """What each process wrote that ended before it had a rank."""
    folder: Path = launcher.run_directory() / "logs" / "starting"
    return [path.read_text() for path in sorted(folder.iterdir())]


def test_a_torch_that_can_not_be_imported_ends_the_run_with_its_error(launcher: Launcher) -> None:
    words = "libx.so.12: cannot open shared object file"
    error = f"ImportError: {words}"
    ended = with_torch(launcher, f"print('loading')\nraise ImportError({words!r})\n")
    assert ended.code == 1
    shown = ended.out + ended.err
    assert "first failure: a process of node" in ended.err
    assert f"  | {error}" in ended.err
    last = f"remesh: failed: workers end before they are ready (exit code 1): {error}"
    assert last in ended.err.splitlines()
    assert f"(exit code 1): {error}; trying again" in shown
    logs = kept(launcher)
    assert 2 <= len(logs) <= 3, "each rank's place once, and what had begun meanwhile"
    assert all(log.startswith("loading\n") and log.endswith(f"{error}\n") for log in logs)


def test_a_crash_in_an_import_shows_the_signal_and_the_last_lines(launcher: Launcher) -> None:
    crash = "import ctypes\nprint('about to load', flush=True)\nctypes.string_at(0)\n"
    ended = with_torch(launcher, crash)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert any(line.endswith("ended with signal SIGSEGV before it was ready") for line in lines)
    assert any(line.startswith("  | ") and "__init__.py" in line for line in lines)
    told = "(signal SIGSEGV): Fatal Python error: Segmentation fault; that was start 3"
    assert told in next(line for line in lines if line.startswith("remesh: failed: "))
    assert all(log.startswith("about to load\n") for log in kept(launcher))


def test_a_loop_that_leaves_before_the_call_shows_its_last_lines(launcher: Launcher) -> None:
    script = launcher.folder / "loop.py"
    script.write_text("import os\nprint('no licence left', flush=True)\nos._exit(3)\n")
    ended = launcher.remesh("--elastic", script)
    assert ended.code == 1
    assert "  | no licence left" in ended.err
    last = (
        "remesh: failed: workers end before they call trainer.elastic (exit code 3): "
        "no licence left"
    )
    assert last in ended.err.splitlines()
    assert kept(launcher) == ["no licence left\n"]


def test_a_script_that_never_calls_elastic_is_told_so_in_one_line(launcher: Launcher) -> None:
    script = launcher.folder / "plain.py"
    script.write_text("print('trained')\n")
    ended = launcher.remesh("--elastic", script)
    assert ended.code == 2
    (told,) = (line for line in ended.err.splitlines() if line.startswith("remesh: failed: "))
    assert told.startswith("remesh: failed: the script ended and has not called trainer.elastic; ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "#!/no/such/shell\n",
            "No such file or directory; it is not there, or what its",
        ),
        ("no program", "Exec format error; give it a first line such as #!/bin/sh"),
    ],
)
def test_a_program_that_can_not_be_run_is_named_in_the_last_line(
    launcher: Launcher, content: str, words: str
) -> None:
    program = launcher.folder / "program"
    program.write_text(content)
    program.chmod(0o755)
    ended = launcher.remesh("--no-python", "./program")
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("remesh: failed: ")
    assert f"exit code 127: ./program can't be run: {words}" in last


LOOP = """
import os, sys
if len(os.listdir({starts!r})) >= 2:
    open({refused!r}, "w").close()
    sys.exit("the port is taken")
open(os.path.join({starts!r}, str(os.getpid())), "x").close()
import time, torch, trainer

def train(run):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.state(model, optimizer)
    for step in run.steps(40):
        while step >= 20 and not os.path.exists({refused!r}):
            time.sleep(0.05)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        time.sleep(0.05)

trainer.elastic(train)
"""


def test_a_standby_that_can_not_start_says_why_once(launcher: Launcher) -> None:
    starts = launcher.folder / "starts"
    starts.mkdir()
    script = launcher.folder / "loop.py"
    script.write_text(LOOP.format(starts=str(starts), refused=str(launcher.folder / "refused")))
    ended = launcher.remesh("--elastic", "--nproc-per-node", 2, script)
    assert ended.code == 0, ended.err
    told = "a standby ended before it was ready (exit code 1): the port is taken; "
    assert ended.err.count(told) == 1
    assert kept(launcher) == ["the port is taken\n"]
    exits = read_lines(launcher.run_directory() / "events.jsonl")
    unplaced = [e for e in exits if e["event"] == "worker.exit" and e["rank"] is None]
    assert [(e["exit_code"], e["expected"]) for e in unplaced] == [(1, False)]
