"""The command that is printed for starting again."""

from __future__ import annotations

import shlex

import pytest

from trainer.command.again import command_again


@pytest.mark.parametrize(
    ("arguments", "target", "expected"),
    [
        (["job.yaml"], "job.yaml", ["job.yaml"]),
        (["--fresh", "job.yaml", "--set", "a=b c"], "job.yaml", ["job.yaml", "--set", "a=b c"]),
        (["job.yaml", "--fresh"], "job.yaml", ["job.yaml"]),
        (["job.yaml", "--fre"], "job.yaml", ["job.yaml"]),
        # A script's own flags are its own.
        (["--elastic", "--fresh", "t.py", "--fresh"], "t.py", ["--elastic", "t.py", "--fresh"]),
        (["t.py", "--f", "$x"], "t.py", ["t.py", "--f", "$x"]),
    ],
)
def test_the_command_is_the_same_without_fresh(
    arguments: list[str], target: str, expected: list[str]
) -> None:
    line = command_again(["remesh"], arguments, target)
    assert shlex.split(line) == ["remesh", "run", *expected]
