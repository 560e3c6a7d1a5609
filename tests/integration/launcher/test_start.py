"""The command and the agent start in a blink: they never import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.launcher.launching import ROOT


def imported_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "trainer.command",
        "trainer.command.run",
        "trainer.command.script_launch",
        "trainer.command.job_launch",
        "trainer.command.plan",
        "trainer.command.status",
        "trainer.command.rendezvous",
        "trainer.command.checkpoint",
        "trainer.agent",
        "trainer.telemetry",
        "rendezvous.service",
    ],
)
def test_no_torch(module: str) -> None:
    assert "torch" not in imported_by(f"import {module}")


def test_help_needs_next_to_nothing() -> None:
    modules = imported_by("from trainer.command import main\nmain([])")
    assert not {"grpc", "pydantic", "yaml", "asyncio", "rich"} & modules


@pytest.mark.parametrize("module", ["run", "script_launch", "job_launch"])
def test_the_first_line_waits_for_nothing_that_is_needed_later(module: str) -> None:
    """The rendezvous and what keeps state take as long to load as all that comes before."""
    modules = imported_by(f"import trainer.command.{module}")
    assert not {"grpc", "google.protobuf", "numpy"} & modules
