"""A job that comes by a pipe."""

from __future__ import annotations

import io

import pytest

from trainer.errors import JobError
from trainer.job import load


def test_a_dash_is_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("model: {preset: debug}\n"))
    job = load("-", ["train.steps=7"])
    assert (job.name, job.train.steps) == ("job", 7)


def test_complaints_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("model: {preset: debug}\ntrian: {}\n"))
    with pytest.raises(JobError, match=r"-:2: .*trian"):
        load("-")
