"""The agent's smaller parts."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from trainer.address import split_endpoint
from trainer.agent.endpoint import StoreSocket, address_towards
from trainer.agent.environment import fill_arguments, script_environment
from trainer.agent.failure import Failure, first, read_error_file, report
from trainer.agent.identity import NodeName
from trainer.agent.launch import Script
from trainer.agent.process import Exit
from trainer.rank_environment import RankPosition

POSITION = RankPosition(
    rank=5,
    local_rank=1,
    group_rank=2,
    world_size=8,
    local_world_size=2,
    group_world_size=4,
    store="[::1]:1234",
    restarts=3,
)


def environment(base: dict[str, str], script: Script) -> dict[str, str]:
    return script_environment(
        base, script, POSITION, run_id="r", max_restarts=4, error_file="/tmp/error"
    )


def test_a_scripts_environment() -> None:
    env = environment({"HOME": "/h", "RANK": "99"}, Script(argv=("x",), env={"A": "1"}, role="t"))
    assert env["HOME"] == "/h"
    assert (env["A"], env["ROLE_NAME"], env["RANK"], env["LOCAL_RANK"]) == ("1", "t", "5", "1")
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("::1", "1234")
    assert env["TORCHELASTIC_RESTART_COUNT"] == "3"
    assert env["OMP_NUM_THREADS"] == "1"
    assert environment({"OMP_NUM_THREADS": "8"}, Script(argv=()))["OMP_NUM_THREADS"] == "8"
    assert environment({}, Script(argv=(), master=("h", 7)))["MASTER_PORT"] == "7"


@pytest.mark.parametrize(("visible", "own"), [(None, "1"), ("4, 6", "6")])
def test_a_virtual_local_rank(visible: str | None, own: str) -> None:
    base = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    env = environment(base, Script(argv=(), virtual_local_rank=True))
    assert (env["LOCAL_RANK"], env["CUDA_VISIBLE_DEVICES"]) == ("0", own)


def test_arguments() -> None:
    assert fill_arguments(["a${local_rank}", "$HOME", "100$"], 3) == ["a3", "$HOME", "100$"]


def test_each_socket_is_new_and_a_listening_one_takes_early_callers() -> None:
    first_one, second = (StoreSocket("127.0.0.1", listen=True) for _ in range(2))
    assert first_one.endpoint != second.endpoint
    with socket.create_connection(split_endpoint(first_one.endpoint), timeout=5):
        pass
    for store in (first_one, second):
        store.release()


def test_a_kept_port_is_outside_of_the_kernels_own_range() -> None:
    store = StoreSocket("127.0.0.1", listen=False)
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not low <= store.port <= high
    store.release()
    again = socket.socket()
    again.bind(("127.0.0.1", store.port))
    again.close()


def test_endpoints() -> None:
    assert split_endpoint("[::1]:80") == ("::1", 80)
    assert address_towards("127.0.0.1:1") == "127.0.0.1"
    for wrong in ("host", "host:", "host:x"):
        with pytest.raises(ValueError, match="host:port"):
            split_endpoint(wrong)


def test_agents_of_one_run_on_one_machine_have_different_names() -> None:
    run_id = f"test-{os.getpid()}"
    one, two = NodeName(run_id, None), NodeName(run_id, None)
    assert one.name == socket.gethostname()
    assert two.name == f"{one.name}-1"
    one.release()
    again = NodeName(run_id, None)
    assert again.name == one.name
    assert NodeName(run_id, "mine").name == "mine"
    two.release()
    again.release()


def failure(rank: int, time: float, **more: object) -> Failure:
    fields = {"message": "", "traceback": "", "exit": Exit(1, None)} | more
    return Failure(
        node="a",
        rank=rank,
        local_rank=rank,
        generation=1,
        pid=100 + rank,
        time=time,
        **fields,  # type: ignore[arg-type]
    )


def test_the_first_failure_comes_first() -> None:
    root = failure(3, 1.0, message="ValueError: x", traceback="Traceback\n  here\nValueError: x")
    then = failure(0, 2.0, exit=Exit(None, 6))
    assert first([then, root]) is root
    lines = report([then, root]).splitlines()
    assert lines[0].startswith("first failure: rank 3")
    assert "ValueError: x" in lines
    assert lines[-1] == "then: rank 0 ended with signal SIGABRT"
    assert report([]) == ""


def test_without_a_traceback_the_last_output_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    log.write_text("\n".join(f"line {n}" for n in range(100)))
    text = report([failure(0, 1.0, log=log)])
    assert "| line 99" in text
    assert "| line 79" not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"message": {"message": "E: x", "extraInfo": {"py_callstack": "T"}}}, ("E: x", "T")),
        ({"message": "old form"}, ("old form", "")),
        ({"message": 3}, None),
        ([], None),
    ],
)
def test_torchs_error_file(
    tmp_path: Path, content: object, expected: tuple[str, str] | None
) -> None:
    path = tmp_path / "error.json"
    assert read_error_file(path) is None
    path.write_text(json.dumps(content))
    found = read_error_file(path)
    assert (found[:2] if found else None) == expected
