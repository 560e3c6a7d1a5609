"""Every command where nothing but ASCII can be shown: through a pipe, and on a dumb terminal of
20 columns. What can't be written is marked; nothing raises, and nothing moves the cursor."""

from __future__ import annotations

import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.integration.launcher.launching import PATIENCE, PROGRAMS, ROOT
from tests.unit.command.run_directories import leave_run
from trainer.command import ON_A_CLUSTER, SUBCOMMANDS

GOLDEN = ROOT / "tests" / "unit" / "checkpoint" / "golden" / "format-1"
POOR = {
    "TERM": "dumb",
    "COLUMNS": "20",
    "LINES": "5",
    "LANG": "C",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii:strict",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "KUBECONFIG": "/nowhere",
}
BEYOND = "é × … 語"
NOBODY = ["--endpoint", "127.0.0.1:9"]
LINES = [
    [],
    ["--version"],
    ["ru n"],
    ["run", "nothing-é.yaml"],
    ["run", "bad-é.yaml"],
    ["run", "--set", f"model.{BEYOND}=1", "job-é.yaml"],
    ["run", "é"],
    ["resume", "over"],
    ["plan", "job-é.yaml"],
    ["plan", "over", "--without", "é"],
    ["schema"],
    ["schema", "--docs"],
    ["audit", "over"],
    ["audit", "over", "--json"],
    ["status", "over"],
    ["status", "over", "--watch"],
    ["status", "over", "--json"],
    ["status", "é"],
    ["status", "over", "--cluster"],
    ["runs"],
    ["runs", "--json"],
    ["runs", "é"],
    ["rendezvous", "status", *NOBODY],
    ["rendezvous", "drain", "r", "é", *NOBODY],
    ["rendezvous", "serve", "--store", "é"],
    ["checkpoint", "list", "checkpoints-é"],
    ["checkpoint", "show", "checkpoints-é"],
    ["checkpoint", "verify", "checkpoints-é"],
    ["checkpoint", "diff", "checkpoints-é", "checkpoints-é"],
    ["checkpoint", "export", "checkpoints-é", "exported-é"],
    ["checkpoint", "import", "exported-é", "imported-é"],
    ["checkpoint", "prune", "checkpoints-é", "--keep", "1"],
    ["checkpoint", "list", "é"],
    ["completion", "bash"],
    ["completion", "fish"],
    ["render", "job-é.yaml", "--image", "é"],
    ["validate", "job-é.yaml"],
    ["submit", "job-é.yaml", "--image", "x"],
    ["logs", "over"],
    ["logs", "over", "--follow", "--tail", "1"],
    ["logs", "é"],
    ["scale", "over", "--nodes", "2"],
    ["drain", "over", "--node", "é"],
    ["delete", "é"],
    ["delete", "over", "--yes"],
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A run that is over, and a job and a checkpoint with names that not everybody can write."""
    over = leave_run(
        tmp_path / "runs" / "over", steps=9, summary=True, state="completed", reason=BEYOND
    )
    over.summary.write_text(json.dumps({"status": "completed", "reason": BEYOND, "steps": 9}))
    log = over.log(2, 0)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{BEYOND}\n" * 3)
    (tmp_path / "job-é.yaml").write_text("name: job\nmodel: {preset: debug}\n")
    (tmp_path / "bad-é.yaml").write_text(f"name: {BEYOND}\nmodel: {{préset: debug}}\n")
    shutil.copytree(GOLDEN, tmp_path / "checkpoints-é")
    return tmp_path


def command() -> list[str]:
    lines = [*LINES, *([name, "--help"] for name in SUBCOMMANDS | ON_A_CLUSTER)]
    return [sys.executable, str(PROGRAMS / "every_command.py"), json.dumps(lines)]


def judge(shown: bytes) -> None:
    text = shown.decode(errors="replace").replace("\r\n", "\n")
    pieces = text.split("=== ")[1:]
    codes = [piece.splitlines()[0] for piece in pieces[1::2]]
    wrong = [
        (line.splitlines()[0], code)
        for line, code in zip(pieces[::2], codes, strict=True)
        if code not in ("0", "1", "2")
    ]
    assert not wrong
    assert len(codes) == len(LINES) + len(SUBCOMMANDS | ON_A_CLUSTER)
    assert "Traceback" not in text
    assert "\x1b" not in text
    # What ranks have written is theirs, and is shown as it is.
    ours = text.replace(BEYOND, "")
    assert ours.isascii(), [line for line in ours.splitlines() if not line.isascii()]


def test_each_is_walked() -> None:
    assert {line[0] for line in LINES[3:]} == (SUBCOMMANDS | ON_A_CLUSTER).keys()


def test_through_a_pipe(here: Path) -> None:
    ended = subprocess.run(
        command(),
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), **POOR},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    judge(ended.stdout)


@pytest.mark.parametrize("line", [["serve", "--help"], ["status", "é", *NOBODY]])
def test_the_rendezvous_without_training(here: Path, line: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "rendezvous", *line],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), **POOR},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode in (0, 2)
    assert b"Traceback" not in ended.stderr
    assert (ended.stdout + ended.stderr).isascii()


def test_on_a_dumb_terminal(here: Path) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
    started = subprocess.Popen(
        command(),
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), **POOR},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := _read(ours):
            shown += piece
        started.wait(PATIENCE)
    finally:
        started.kill()
        started.wait()
        os.close(ours)
    judge(shown)


def _read(terminal: int) -> bytes:
    """What comes next; nothing when the other end is closed, which is an error on a terminal."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""
