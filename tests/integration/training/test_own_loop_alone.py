"""A user's loop without Remesh, in this process: what `run` does, and where it resumes from."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import trainer
from trainer.errors import JobError


class Loop:
    """A function for `trainer.elastic`, and what it saw."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.rates: list[float] = []
        self.draws: list[tuple[float, float]] = []
        self.weights = torch.empty(0)

    def __call__(self, run: trainer.Run) -> None:
        model = nn.Linear(4, 1)
        fully_shard(model, mesh=run.mesh)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        run.state(model, optimizer, scheduler=scheduler)
        for _ in run.steps(self.total):
            self.rates.append(optimizer.param_groups[0]["lr"])
            inputs = torch.randn(2, 4)
            self.draws.append((float(inputs[0, 0]), random.random()))
            model(inputs).square().mean().backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        self.weights = model.weight.full_tensor().detach().clone()


def test_it_resumes_from_a_directory_to_the_same_bits(tmp_path: Path) -> None:
    whole, first, second = Loop(8), Loop(5), Loop(8)
    trainer.elastic(whole)
    trainer.elastic(first, checkpoints=str(tmp_path), every=2)
    trainer.elastic(second, checkpoints=str(tmp_path), every=2)
    assert first.rates + second.rates == whole.rates
    assert first.draws + second.draws == whole.draws
    assert torch.equal(second.weights, whole.weights)
    assert not dist.is_initialized()


def test_without_a_directory_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer.elastic(Loop(2))
    assert not list(tmp_path.iterdir())


def test_a_turn_without_an_update_is_a_step(tmp_path: Path) -> None:
    seen: list[int] = []

    def train(run: trainer.Run) -> None:
        state = run.state(nn.Linear(2, 1))
        for step in run.steps(3):
            assert state.version == step
            seen.append(step)

    trainer.elastic(train)
    assert seen == [0, 1, 2]


def test_what_is_asked_for_in_the_wrong_order_is_named() -> None:
    def no_state(run: trainer.Run) -> None:
        next(run.steps(1))

    def twice(run: trainer.Run) -> None:
        run.state(nn.Linear(2, 1))
        run.state(nn.Linear(2, 1))

    with pytest.raises(JobError, match=r"call run\.state before run\.steps"):
        trainer.elastic(no_state)
    with pytest.raises(JobError, match="twice"):
        trainer.elastic(twice)
    assert not dist.is_initialized()


def test_what_the_function_raises_comes_through() -> None:
    def broken(run: trainer.Run) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        trainer.elastic(broken)
    assert not dist.is_initialized()
