"""What other users of one machine can do to a run, and read and change of it: nothing."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import psutil
import pytest
import yaml

from rendezvous.errors import Unreachable
from rendezvous.session.operator import Operator
from tests.integration.launcher.launching import REMESH, Launcher, wait_for
from trainer.address import own_address
from trainer.agent.endpoint import StoreSocket
from trainer.telemetry.status import read_status

UNDER_UMASK = ["sh", "-c", 'umask "$0"; exec "$@"']


def ports(process: psutil.Popen) -> list[int]:
    """Those that a process and its children listen on."""
    family = [process, *process.children(recursive=True)]
    found = [c for one in family for c in one.net_connections("tcp") if c.status == "LISTEN"]
    return [connection.laddr.port for connection in found]


async def operate(port: int, run_id: str) -> list[str]:
    """What a stranger is told of the jobs there, and what of its orders is obeyed."""
    async with Operator([f"127.0.0.1:{port}"]) as operator:
        try:
            seen = [job.run_id for job in (await operator.status()).jobs]
            stopped = await operator.stop(run_id, reason="a stranger")
            drained = await operator.drain(
                run_id, socket.gethostname(), grace=1, reason="a stranger"
            )
        except Unreachable:
            return []
    obeyed = [name for name, reply in (("stop", stopped), ("drain", drained)) if reply.accepted]
    assert all("token" in reply.reason for reply in (stopped, drained) if not reply.accepted)
    return [*seen, *obeyed, "answered"]


def test_nobody_else_stops_or_sees_a_run_of_one_node(launcher: Launcher, tmp_path: Path) -> None:
    """
    1. a script runs; whoever finds the port of its rendezvous is told nothing, and not obeyed
    2. its own user drains it by its path, from another folder
    """
    up = tmp_path / "up"
    (tmp_path / "quiet.py").write_text(
        f"import time\nopen({str(up)!r}, 'w').close()\ntime.sleep(600)\n"
    )
    process = launcher.start([*REMESH, "run", "quiet.py"])
    wait_for(up.exists, "the script runs")
    root = launcher.run_directory()
    wait_for(lambda: bool((read_status(root) or {}).get("agents")), "the run has a status")
    answers = [asyncio.run(operate(port, root.name)) for port in ports(process)]
    assert [] != [answer for answer in answers if answer] == [["answered"]]
    assert process.is_running()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command in ("status", "drain"):
        asked = Launcher(elsewhere)([*REMESH, command, str(root)])
        assert asked.code == 0, asked.err
    assert launcher.end(process).code != 0
    assert f"SIGTERM at {socket.gethostname()}" in (root / "events.jsonl").read_text()


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_files_are_private_where_passwords_are(launcher: Launcher, umask: str) -> None:
    """And under no umask may others write to what a later start believes, or run any of it."""
    job = {
        "entrypoint": {"command": "true", "env": {"WANDB_API_KEY": "hunter2"}},
        "elastic": {"nproc_per_node": 1},
    }
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(job))
    ended = launcher([*UNDER_UMASK, umask, *REMESH, "run", "job.yaml"])
    assert ended.code == 0, ended.err
    root = launcher.run_directory()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert modes[root / "job.yaml"] == modes[root / "start.json"] == 0o600
    wrong = 0o077 if umask == "077" else 0o002
    for path, mode in modes.items():
        assert not mode & wrong, (path, oct(mode))
        assert path.is_dir() or not mode & 0o111, (path, oct(mode))
    exposed = [p for p in root.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
    assert exposed == [root / "job.yaml"]


def test_a_users_own_umask_is_the_scripts(launcher: Launcher) -> None:
    (launcher.folder / "made.py").write_text("open('made', 'w').close()")
    ended = launcher([*UNDER_UMASK, "000", *REMESH, "run", "made.py"])
    assert ended.code == 0, ended.err
    assert stat.S_IMODE((launcher.folder / "made").stat().st_mode) == 0o666


def test_a_job_file_that_others_could_read_is_closed(launcher: Launcher) -> None:
    """Of a run that was begun before, as an older version left it."""
    job = {
        "entrypoint": {"command": "true", "env": {"TOKEN": "hunter2"}},
        "elastic": {"nproc_per_node": 1},
        "run": {"id": "again"},
    }
    (launcher.folder / "job.yaml").write_text(yaml.safe_dump(job))
    for _ in range(2):
        ended = launcher.remesh("job.yaml")
        assert ended.code == 0, ended.err
        written = launcher.run_directory() / "job.yaml"
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        written.chmod(0o644)


def test_a_store_listens_on_its_nodes_address_alone() -> None:
    try:
        own = own_address("203.0.113.1:9")
    except OSError:
        pytest.skip("this machine has no address but loopback")
    store = StoreSocket(own, listen=True)
    try:
        assert store.socket.getsockname()[0] == own
        with socket.socket() as stranger:
            assert stranger.connect_ex(("127.0.0.1", store.port)) != 0
        with socket.create_connection((own, store.port), timeout=30):
            pass
    finally:
        store.release()
