"""No flag of the pinned torch's torchrun is unknown to `remesh run`."""

from __future__ import annotations

import argparse

import pytest
from torch.distributed.run import get_args_parser

from trainer.command.run import parse, parser

SAMPLES = {int: "3", float: "0.5"}


def torchruns() -> list[argparse.Action]:
    return [a for a in get_args_parser()._actions if a.option_strings and a.dest != "help"]


def test_every_spelling_is_known() -> None:
    ours = {name for action in parser()._actions for name in action.option_strings}
    assert {name for action in torchruns() for name in action.option_strings} <= ours


@pytest.mark.parametrize("action", torchruns(), ids=lambda action: action.dest)
def test_every_flag_takes_what_torchruns_takes(action: argparse.Action) -> None:
    for name in action.option_strings:
        words = [name]
        if action.nargs != 0:
            choices = list(action.choices or ())
            words.append(choices[0] if choices else SAMPLES.get(action.type, "1"))
        parsed = parse([*words, "train.py", "--its", "own"])
        assert parsed.target == "train.py"
        assert parsed.arguments == ["--its", "own"]
        assert getattr(parsed, action.dest), name


@pytest.mark.parametrize("action", torchruns(), ids=lambda action: action.dest)
def test_every_flag_reads_its_variable(
    action: argparse.Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"PET_{action.dest.upper()}"
    choices = list(action.choices or ())
    monkeypatch.setenv(name, choices[0] if choices else "1")
    assert getattr(parse(["train.py"]), action.dest)
