"""What `remesh` says before any of its commands is looked at."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

import trainer
from trainer.command import main


def test_the_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"remesh {trainer.__version__}\n"
    import remesh

    assert remesh.__version__ == trainer.__version__
    declared = configparser.ConfigParser()
    declared.read(Path(__file__).parents[3] / "setup.cfg")
    assert declared["metadata"]["version"] == "attr: trainer.version.VERSION"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rnu", "job.yaml"], "'rnu' is no command; did you mean run?"),
        (["checkpoints"], "'checkpoints' is no command; did you mean checkpoint?"),
        (["rendevous", "serve"], "'rendevous' is no command; did you mean rendezvous?"),
        (["job.yaml"], "'job.yaml' is no command; did you mean `remesh run job.yaml`?"),
        (["xyzzy"], "'xyzzy' is no command; `remesh --help` lists them"),
    ],
)
def test_a_mistyped_command_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"remesh: {told}\n"
