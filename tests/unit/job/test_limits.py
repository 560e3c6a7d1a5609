"""A job file, an override or a flag may be anybody's: refused in a line, and at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rendezvous import bounds
from trainer.command import main
from trainer.errors import JobError
from trainer.job import elastic, load
from trainer.job.yaml12 import MAX_CHARACTERS, parse, parse_value
from trainer.mesh.stages import stage_layers

MOMENT = 30.0
"""What takes longer than this does not end in any time that a person would wait."""

NINES = "9" * 5000
BOMB = "model: {preset: debug, args: {" + (
    "a0: &a0 [x,x,x,x,x,x,x,x,x], "
    + ", ".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
) + "}}"  # fmt: skip
FILES = {
    "an alias bomb": BOMB,
    "an alias of what it is in": "model: &m {preset: debug, args: *m}",
    "flow nested deeply": "model: " + "[" * 50_000,
    "mappings nested deeply": "model: " + "{a: " * 20_000,
    "blocks nested deeply": "model:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 400)),
    "sequences nested deeply": "- " * 30_000,
    "an endless integer": f"model: {{preset: debug}}\ntrain: {{steps: {NINES}}}",
    "an endless hexadecimal": "model: {preset: debug}\ntrain: {steps: 0x" + "f" * 5000 + "}",
    "an endless duration": f"model: {{preset: debug}}\nelastic: {{wait: {NINES}}}",
    "a duration of text": f'model: {{preset: debug}}\nelastic: {{wait: "{NINES}h"}}',
    "an endless fraction": "model: {preset: debug}\ntrain: {clip: 1e999999}",
    "10^9 nodes": "model: {preset: debug}\nelastic: {nodes: 1000000000}",
    "up to 10^9 nodes": 'model: {preset: debug}\nelastic: {nodes: "1:1000000000"}',
    "nodes of many digits": f'model: {{preset: debug}}\nelastic: {{nodes: "{NINES}"}}',
    "10^9 ranks": "model: {preset: debug}\nelastic: {nproc_per_node: 1000000000}",
    "many nodes of many": "model: {preset: debug}\nelastic: {nodes: 65536, nproc_per_node: 1024}",
    "10^9 standbys": "model: {preset: debug}\nelastic: {standby_per_node: 1000000000}",
    "10^9 tensor ranks": "model: {preset: debug}\nparallel: {tensor: 999999937}",
    "10^9 stages": "model: {preset: debug, layers: 1000000000}\nparallel: {pipeline: 1000000000}",
    "10^9 pieces": "model: {preset: debug}\ntrain: {pieces: 1000000000}",
    "10^18 steps": "model: {preset: debug}\ntrain: {steps: 1000000000000000000}",
    "a seed of 64 bits": "model: {preset: debug}\nrun: {seed: 9223372036854775808}",
    "a year of silence": "model: {preset: debug}\nelastic: {beat_timeout: 99999999999}",
    "a long key": f"model: {{preset: debug}}\n{'k' * 1000}: 1",
    "a long text": "model: {preset: " + "y" * 50_000 + "}",
    "a long name": "model: {preset: debug}\nname: " + "n" * 50_000,
    "many unknown keys": "model: {preset: debug}\n" + "\n".join(f"k{n}: 1" for n in range(5000)),
    "many faults": "model: {preset: debug}\nfaults: [" + ",".join(["{}"] * 5000) + "]",
    "a byte that is no text": "model: {preset: debug}\nname: \0",
    "more than a job is long": "model: {preset: debug}\n" + "# \n" * (MAX_CHARACTERS // 2),
}  # fmt: skip


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_a_job_file_beyond_reason_is_refused_in_few_lines(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    began = time.monotonic()
    assert main(["plan", str(path)]) == 2
    assert time.monotonic() - began < MOMENT
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 21
    assert all(line.startswith("remesh: ") and len(line) < 800 for line in lines)
    assert all("9" * 201 not in line and "y" * 201 not in line for line in lines)


def test_a_file_of_any_length_is_read_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(JobError, match=f"more than {MAX_CHARACTERS} characters"):
        load(path)


@pytest.mark.parametrize(
    "override",
    [
        f"train.steps={NINES}",
        "train.steps=" + "[" * 10_000,
        ".".join(["a"] * 10_000) + "=1",
        "model.args=" + "x" * 200_000,
        "x" * 10_000,
        f"elastic.wait={NINES}h",
        "elastic.nodes=1000000000",
    ],
    ids=lambda text: text[:20],
)
def test_an_override_beyond_reason_is_refused_in_a_line(tmp_path: Path, override: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("model: {preset: debug}\n")
    with pytest.raises(JobError) as refused:
        load(path, [override])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 800


FLAGS = [
    ["plan", "JOB", "--nodes", NINES],
    ["plan", "JOB", "--nodes", "1000000000"],
    ["plan", "JOB", "--nproc-per-node", "1000000000"],
    ["plan", "JOB", "--nproc-per-node", NINES],
    ["plan", "JOB", "--nodes", "60000", "--nproc-per-node", "1000"],
    ["run", "JOB", "--nnodes", f"1:{NINES}"],
    ["run", "JOB", "--nnodes", "1:1000000000"],
    ["run", "JOB", "--nproc-per-node", NINES],
    ["run", "JOB", "--max-restarts", NINES],
    ["run", "JOB", "--shutdown-timeout", NINES],
    ["run", "JOB", "--rdzv-id", "x" * 5000],
    ["run", "JOB", "--node", "x" * 5000],
    ["run", "JOB", "--rdzv-conf", f"join_timeout={NINES}"],
    ["run", "JOB", "--rdzv-conf", "wait=nan"],
    ["run", "JOB", "--rdzv-endpoint", f"host:{NINES}"],
    ["run", "JOB", "--fault", "x" * 5000],
    ["run", "--nnodes", NINES, "SCRIPT"],
    ["run", "--nproc-per-node", NINES, "SCRIPT"],
    ["run", "--tee", f"{NINES}:3", "SCRIPT"],
    ["run", "--local-ranks-filter", NINES, "SCRIPT"],
    ["run", "--master-port", NINES, "SCRIPT"],
    ["run", "--label", "x" * 5000, "SCRIPT"],
    ["run", "--signals-to-handle", "x" * 5000, "SCRIPT"],
    ["scale", "RUN", "--nodes", NINES],
    ["scale", "RUN", "--nodes", "-1"],
    ["drain", "RUN", "--grace", "nan"],
    ["rendezvous", "scale", "job", "--nodes", str(2**64)],
    ["rendezvous", "drain", "job", "n", "--grace", "1e400"],
    ["rendezvous", "status", "x" * 5000],
    ["checkpoint", "import", "a", "b", "--version", "-1"],
    ["checkpoint", "prune", "a", "--keep", NINES],
    ["checkpoint", "prune", "a", "--leftovers", "nan"],
]


@pytest.mark.parametrize("words", FLAGS, ids=lambda words: " ".join(words)[:40])
def test_a_flag_beyond_reason_is_refused(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text("model: {preset: debug}\n")
    (tmp_path / "train.py").write_text("")
    there = {"JOB": str(tmp_path / "job.yaml"), "SCRIPT": str(tmp_path / "train.py")}
    began = time.monotonic()
    try:
        code = main([there.get(word, word) for word in words])
    except SystemExit as ended:
        code = ended.code  # type: ignore[assignment]
    assert time.monotonic() - began < MOMENT
    assert code == 2
    told = capsys.readouterr().err
    assert "9" * 201 not in told
    assert "x" * 201 not in told
    assert len(told.splitlines()[-1]) < 800


def test_aliases_may_be_used_and_big_numbers_quoted() -> None:
    value, _ = parse("a: &x {k: 1}\nb: *x\nc: '" + NINES + "'\n", "f")
    assert value == {"a": {"k": 1}, "b": {"k": 1}, "c": NINES}
    assert parse_value("18446744073709551615", "v") == 2**64 - 1


def test_stages_of_many_layers_are_cut_in_no_time() -> None:
    stages = stage_layers(1 << 18, 1 << 18)
    assert [len(layers) for layers in stages] == [1] * (1 << 18)


def test_a_job_asks_for_no_more_than_the_service_takes() -> None:
    assert (elastic.MAX_NODES, elastic.MAX_SLOTS) == (bounds.MAX_NODES, bounds.MAX_SLOTS)
