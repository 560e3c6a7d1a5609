"""`remesh checkpoint` on real checkpoints: list, show, verify, diff, export, import, prune."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import trainer.checkpoint as checkpoint
from trainer.checkpoint import Checkpointer, cli
from trainer.errors import JobError


def remesh(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "model/w": torch.randn(300, 40).bfloat16(),
        "model/b": torch.randn(40),
        "optim/w/exp_avg": torch.randn(300, 40),
        "model/scale": torch.tensor(2.5, dtype=torch.float64),
        "model/none": torch.empty(0, 4),
    }


@pytest.fixture
def directory(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "checkpoints"
    checkpointer = Checkpointer(path, identity={"m": 1}, rank=0, world_size=1, generation=3)
    checkpointer.save(10, state, {"cursor": 10})
    state["model/w"] += 1
    checkpointer.save(20, state, {"cursor": 20})
    return path


def data_file(directory: Path, version: int) -> Path:
    (found,) = directory.glob(f"data/v{version:08d}-*/*.safetensors")
    return found


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_list_and_show(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remesh("list", directory, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["version"], line["generation"], line["tensors"]) for line in lines] == [
        (20, 3, 5),
        (10, 3, 5),
    ]
    assert remesh("list", directory.parent) == 0
    assert remesh("show", f"{directory}@10", "--json") == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["values"] == {"cursor": 10}
    assert shown["tensors"]["model/w"] == ["bfloat16", [300, 40], 1]
    assert remesh("show", directory) == 0
    assert "model/none" in capsys.readouterr().out
    with pytest.raises(JobError, match="no version 30; it has: 20, 10"):
        remesh("show", f"{directory}@30")
    with pytest.raises(JobError, match="holds no checkpoints"):
        remesh("list", directory / "data")


def test_verify_names_the_damaged_tensor(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remesh("verify", directory, "--all") == 0
    assert capsys.readouterr().out.count("is whole") == 2
    flip(data_file(directory, 20), -1)
    assert remesh("verify", directory, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["whole"]
    assert [item["tensor"] for item in report["damage"]] == ["model/w"]
    assert remesh("verify", f"{directory}@10") == 0
    data_file(directory, 10).unlink()
    assert remesh("verify", directory, "--all") == 1
    assert "00000.safetensors" in capsys.readouterr().out


def test_verify_names_a_file_of_another_checkpoint(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_file(directory, 20).write_bytes(data_file(directory, 10).read_bytes())
    assert remesh("verify", directory) == 1
    assert "another checkpoint" in capsys.readouterr().out


def test_diff(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remesh("diff", directory, f"{directory}@20") == 0
    assert "the same" in capsys.readouterr().out
    assert remesh("diff", f"{directory}@10", directory) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "values.cursor: 10 in A, 20 in B"
    assert len(lines) == 2
    assert lines[1].startswith("model/w: ")
    assert "elements differ, at most by 1" in lines[1]


@pytest.mark.parametrize("form", ["safetensors", "torch", "dcp"])
def test_export_and_import_again(
    directory: Path, tmp_path: Path, state: dict[str, torch.Tensor], form: str
) -> None:
    target = tmp_path / "out"
    assert remesh("export", directory, target, "--format", form) == 0
    again = tmp_path / "again"
    source = target / "checkpoint.pt" if form == "torch" else target
    assert remesh("import", source, again, "--raw", "--version", 20) == 0
    blank = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    nested = {
        "model": {name: blank[f"model/{name}"] for name in ("w", "b", "scale", "none")},
        "optim": {"w": {"exp_avg": blank["optim/w/exp_avg"]}},
    }
    found = checkpoint.load(again, nested)
    assert found is not None
    assert found.version == 20
    assert all(torch.equal(blank[name], state[name]) for name in state)
    with pytest.raises(JobError, match="not an empty directory"):
        remesh("export", directory, target, "--format", form)


def test_exported_weights_are_what_safetensors_reads(
    directory: Path, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    assert remesh("export", directory, tmp_path / "out", "--weights") == 0
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert sorted(weights) == ["b", "none", "scale", "w"]
    assert torch.equal(weights["w"], state["model/w"])


def test_imported_weights_begin_with_fresh_moments(tmp_path: Path) -> None:
    save_file({"w": torch.ones(3, 2)}, tmp_path / "in.safetensors")
    target = tmp_path / "checkpoints"
    code = remesh(
        "import", tmp_path / "in.safetensors", target, "--fresh-moments", "--identity", '{"m": 1}'
    )
    assert code == 0
    wanted = {
        "model/w": torch.zeros(3, 2),
        "optim/w/exp_avg": torch.ones(3, 2),
        "optim/w/exp_avg_sq": torch.ones(3, 2),
    }
    job = Checkpointer(target, identity={"m": 1}, rank=0, world_size=1, generation=1)
    loaded = job.load(wanted)
    assert loaded is not None
    assert [wanted[name].sum().item() for name in sorted(wanted)] == [6, 0, 0]


class Runs:
    """What a hostile pickle would name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_no_code_in_a_foreign_file_runs(tmp_path: Path) -> None:
    import pickle

    evil = tmp_path / "ran"
    torch.save({"a": torch.ones(1), "b": Runs(evil)}, tmp_path / "evil.pt")
    with pytest.raises(JobError, match=r"evil\.pt"):
        remesh("import", tmp_path / "evil.pt", tmp_path / "out")
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp" / ".metadata").write_bytes(pickle.dumps(Runs(evil)))
    with pytest.raises(JobError, match=r"\.metadata"):
        remesh("import", tmp_path / "dcp", tmp_path / "out")
    (tmp_path / "notes.pt").write_text("hello")
    with pytest.raises(JobError, match=r"notes\.pt"):
        remesh("import", tmp_path / "notes.pt", tmp_path / "out")
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(JobError, match="half"):
        remesh("import", tmp_path / "half.safetensors", tmp_path / "out")
    assert not evil.exists()
    assert not (tmp_path / "out").exists()


def test_prune(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "data" / "v00000030-g00009-0000dead").mkdir()
    assert remesh("prune", directory, "--keep", 1, "--leftovers", 1e6) == 0
    assert capsys.readouterr().out.startswith("removed v00000010-")
    assert remesh("prune", directory, "--leftovers", 0) == 0
    assert "g00009-0000dead" in capsys.readouterr().out
    assert len(list((directory / "data").iterdir())) == 1
    assert remesh("verify", directory) == 0


def test_listing_and_verifying_import_no_torch(directory: Path) -> None:
    code = (
        "import argparse, sys\n"
        "from trainer.checkpoint import cli\n"
        "import trainer.checkpoint.writer\n"
        "parser = argparse.ArgumentParser(); cli.add_arguments(parser)\n"
        "for action in ('list', 'show', 'verify', 'prune'):\n"
        "    assert cli.run(parser.parse_args([action, sys.argv[1]])) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, timeout=60)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "checkpoints"),
        ("diff", "checkpoints", "checkpoints@10"),
        ("export", "checkpoints", "out", "--format", "torch"),
        ("import", "in.safetensors", "new"),
    ],
)
def test_what_takes_long_shows_its_progress_on_a_terminal(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    save_file({"w": torch.ones(3, 2)}, tmp_path / "in.safetensors")
    monkeypatch.chdir(tmp_path)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    remesh(*arguments)
    shown = terminal.getvalue()
    assert arguments[0].replace("diff", "compare") in shown
    assert "kB" in shown or "bytes" in shown
