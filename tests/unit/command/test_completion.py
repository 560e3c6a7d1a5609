"""Completion in the shells that are installed, and every help's example."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.command import ON_A_CLUSTER, SUBCOMMANDS, main
from trainer.command.completion import SHELLS, script
from trainer.command.parsers import flags_of, parsers_of, subcommands_of

ASK = {
    "bash": """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _remesh
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { :; }; source "$1"; shift
        compadd() { shift; print -l -- "$@" }; _files() { :; }
        words=("$@"); CURRENT=$#; PREFIX="${words[-1]}"; _remesh
    """,
    "fish": """
        source $argv[1]
        complete -C (string join ' ' -- $argv[2..]) | string replace -r '\\t.*' ''
    """,
}
"""How each is asked what it would offer for the words that follow the script's path."""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def offered(shell: str, folder: Path, *words: str) -> list[str]:
    """What the last of the words could become."""
    made = folder / "completion"
    made.write_text(script(shell))
    # fish answers with 1 where it offers nothing.
    asked = ["-c", ASK[shell]] + ([] if shell == "fish" else ["ask"])
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    ended = subprocess.run(
        [shell, *quiet, *asked, str(made), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr == ""
    return [line for line in ended.stdout.splitlines() if line.startswith(words[-1])]


def test_words_and_flags_and_runs_are_offered(shell: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "quick-7").mkdir(parents=True)
    (tmp_path / "runs" / "quick-7" / "job.yaml").touch()
    assert set(offered(shell, tmp_path, "remesh", "ru")) == {"run", "runs"}
    assert "--standalone" in offered(shell, tmp_path, "remesh", "run", "--sta")
    assert offered(shell, tmp_path, "remesh", "runs", "--sta") == []
    assert {"--tail", "--rank", "--namespace"} <= set(
        offered(shell, tmp_path, "remesh", "logs", "--")
    )
    assert offered(shell, tmp_path, "remesh", "resume", "qu") == ["quick-7"]
    assert offered(shell, tmp_path, "remesh", "rendezvous", "se") == ["serve"]
    assert "--advertise" in offered(shell, tmp_path, "remesh", "rendezvous", "serve", "--ad")
    assert offered(shell, tmp_path, "remesh", "completion", "fi") == ["fish"]


def helps() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name in SUBCOMMANDS | ON_A_CLUSTER:
        for parser in parsers_of(name):
            yield f"remesh {name}", parser


def test_every_help_teaches_with_a_line_that_can_be_typed() -> None:
    for line, parser in helps():
        example = parser.epilog.partition("example: ")[2] if parser.epilog else ""
        assert line in example, line
        words = (
            example.partition(line)[2]
            .partition("|")[0]
            .replace(")", " ")
            .split(" For a job on ")[0]
            .split()
        )
        known = set(flags_of(parser)) | {
            flag for below in subcommands_of(parser).values() for flag in flags_of(below)
        }
        assert {w for w in words if w.startswith("-") and len(w) > 1} <= known | {"--cluster"}


@pytest.mark.parametrize("words", [["help", "run"], ["run", "--help"], ["logs", "--help"]])
def test_help_is_had_in_both_ways(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "example: remesh " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "give a job file or a script, such as `remesh run job.yaml`"),
        (["run", "--helpp"], "--helpp: there is no such flag (did you mean --help?)"),
        (["run", "--nprocs-per-node", "4", "x.py"], "(did you mean --nproc-per-node?)"),
        (["runs", "--jsno"], "unrecognized arguments: --jsno (did you mean --json?)"),
        (["status", "--wacth"], "(did you mean --watch?)"),
    ],
)
def test_a_mistyped_flag_is_answered_with_the_nearest(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
