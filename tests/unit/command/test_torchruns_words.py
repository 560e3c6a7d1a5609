"""torchrun's words mean here what they mean there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.utils import macros

from trainer.agent.environment import fill_arguments
from trainer.command import options, run
from trainer.command.script_launch import script_launch
from trainer.errors import JobError

ONE_NODE = ("--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-id", "x", "--rdzv-endpoint")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return "train.py"


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", socket.gethostname()])
def test_one_node_meets_nobody_where_torchrun_would_serve(script: str, host: str) -> None:
    launch = script_launch(run.parse([*ONE_NODE, f"{host}:0", script]))
    assert launch.membership.endpoints == ()
    assert launch.run_id == "x"


def test_a_port_that_nobody_serves_is_torchruns_to_serve(script: str, listening: int) -> None:
    for port, endpoints in ((closed_port(), 0), (listening, 1)):
        launch = script_launch(run.parse([*ONE_NODE, f"localhost:{port}", script]))
        assert len(launch.membership.endpoints) == endpoints


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--nnodes", "2"), ("--nnodes", "1:2"), ("--rdzv-backend", "remesh")],
)
def test_with_others_to_meet_it_is_a_service_that_is_waited_for(
    script: str, flag: str, value: str
) -> None:
    launch = script_launch(
        run.parse([*ONE_NODE, f"localhost:{closed_port()}", flag, value, script])
    )
    assert len(launch.membership.endpoints) == 1
    with pytest.raises(JobError, match="port 0 is where nobody can be met"):
        script_launch(run.parse([*ONE_NODE, "localhost:0", flag, value, script]))


@pytest.mark.parametrize(
    ("variable", "flags", "name", "value"),
    [
        ("PET_MAX_RESTARTS", ["--max-restarts", "0"], "max_restarts", 0),
        ("PET_SHUTDOWN_TIMEOUT", ["--shutdown-timeout", "0"], "shutdown_timeout", 0),
        ("PET_MASTER_PORT", ["--master-port", "0"], "master_port", 0),
        ("PET_NODE_RANK", ["--node-rank", "0"], "node_rank", 0),
        ("PET_RDZV_ENDPOINT", ["--rdzv-endpoint", ""], "rdzv_endpoint", ""),
        ("PET_ROLE", ["--role", ""], "role", ""),
        ("PET_NNODES", ["--nnodes", "1"], "nnodes", "1"),
    ],
)
def test_what_is_typed_wins_over_the_environment(
    variable: str,
    flags: list[str],
    name: str,
    value: object,
    script: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 0 and an empty word are typed too."""
    monkeypatch.setenv(variable, "3")
    assert getattr(run.parse([*flags, script]), name) == value
    assert str(getattr(run.parse([script]), name)) == "3"


def test_a_master_port_of_0_is_a_free_one(script: str) -> None:
    workers = script_launch(run.parse(["--master-port", "0", script])).workers
    assert getattr(workers, "master", None) == (None, 0)


def test_dollars_are_as_under_torchrun() -> None:
    words = ["a$$b", "$5", "${local_rank}", "$local_rank", "${other}", "100%", "$", "$$$$"]
    assert fill_arguments(words, 3) == macros.substitute(words, "3")


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("h", ("h:29400",)),
        ("h:1,10.0.0.1:2", ("h:1", "10.0.0.1:2")),
        ("[::1]:7", ("[::1]:7",)),
        ("[fe80::1]", ("[fe80::1]:29400",)),
        ("fe80::1", ("[fe80::1]:29400",)),
        ("", ()),
    ],
)
def test_endpoints(text: str, endpoints: tuple[str, ...]) -> None:
    assert options.endpoints(text) == endpoints


def test_where_nobody_can_be_met_is_refused_with_what_to_say() -> None:
    with pytest.raises(JobError, match="port 0 is where nobody can be met"):
        options.endpoints("h:0")


@pytest.mark.parametrize(
    "text", ["h:x", "h:70000", ":1", "a:b:1", "[x]:y", "h:²", "h,,k", "http://h:1", "h:0"]
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(JobError, match="is not HOST:PORT"):
        options.endpoints(text)
