"""What a user's loop hands over: taken as of a whole version, and put back to the bit."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from trainer.checkpoint.tensors import put_bytes
from trainer.errors import JobError
from trainer.worker.own.state import OwnState
from trainer.worker.own.tally import Account, Tally, newest

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam with a tensor rate": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
}


class Trainee:
    """A small model with buffers, its optimizer, a scheduler, and what is handed over."""

    def __init__(self, optimizer: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.schedulers = {}
        if not isinstance(self.optimizer.param_groups[0]["lr"], torch.Tensor):
            scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, gamma=0.5)
            self.schedulers["scheduler"] = scheduler
        self.ema = torch.optim.swa_utils.AveragedModel(self.model)
        self.state = OwnState(
            {"model": self.model, "ema": self.ema}, [self.optimizer], self.schedulers
        )

    def forward(self, step: int) -> torch.Tensor:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return self.model(inputs).square().mean()

    def step(self, step: int) -> None:
        self.forward(step).backward()
        self.optimizer.step()
        for scheduler in self.schedulers.values():
            scheduler.step()
        self.ema.update_parameters(self.model)
        self.optimizer.zero_grad()
        self.state.settle(step + 1, made_in=1)

    def everything(self) -> dict[str, torch.Tensor]:
        self.state._look()
        return {name: tensor.clone() for name, tensor in self.state.tensors().items()}


def hand_over(giver: OwnState, taker: OwnState) -> None:
    """As a restore from a peer does."""
    taker.prepare()
    assert taker.local.keys() == giver.local.keys()
    for name, tensor in giver.local.items():
        for part in tensor.parts:
            put_bytes(taker.local[name].view_of(part.box), tensor.bytes_of(part.box))
    taker.become(giver.version, json.loads(json.dumps(giver.values())))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_who_takes_it_over_goes_on_to_the_same_bits(optimizer):
    giver, taker = Trainee(optimizer, 0), Trainee(optimizer, 1)
    for step in range(3):
        giver.step(step)
    # A step is begun and thrown away: what its forward did to the buffers must not be seen.
    giver.forward(99)
    hand_over(giver.state, taker.state)
    assert taker.state.version == 3
    reference = Trainee(optimizer, 0)
    for step in range(3):
        reference.step(step)
    for step in range(3, 6):
        taker.step(step)
        reference.step(step)
    for name, scheduler in reference.schedulers.items():
        assert taker.schedulers[name].state_dict() == scheduler.state_dict()
    found, expected = taker.everything(), reference.everything()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_making_ready_and_not_being_filled_changes_nothing(optimizer):
    trainee, untouched = Trainee(optimizer, 0), Trainee(optimizer, 0)
    trainee.state.prepare()
    trainee.state.unprepare()
    for step in range(2):
        trainee.step(step)
        untouched.step(step)
    for name, tensor in untouched.everything().items():
        assert torch.equal(trainee.everything()[name], tensor), name


def test_a_parameter_without_a_gradient_is_named():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    optimizer = torch.optim.Adam(model.parameters())
    state = OwnState({"model": model}, [optimizer], {})
    model["used"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(JobError, match=r"model/idle\.bias got no gradient"):
        state.settle(1, made_in=1)


def test_an_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.Adam(nn.Linear(2, 1).parameters())
    with pytest.raises(JobError, match="optimizer 0 holds a parameter"):
        OwnState({"model": nn.Linear(2, 1)}, [optimizer], {})


def test_what_is_no_plain_value_is_refused_and_named():
    class Queue:
        def state_dict(self):
            return {"seen": torch.zeros(3)}

        def load_state_dict(self, state_dict):
            raise AssertionError

    with pytest.raises(JobError, match=r"run\.state: .*queue.* is a Tensor"):
        OwnState({"model": nn.Linear(2, 1)}, [], {"queue": Queue()})


def test_the_newest_version_that_a_survivor_has_counts():
    made = Tally(loss=1.5, tokens=8)
    assert newest([Account(version=0), Account(version=0)]) is None
    assert newest([Account(version=4), Account(version=5, tally=made), Account(version=0)]) == (
        Account(version=5, tally=made)
    )
    # Who has taken the state over from others does not know what made it.
    assert newest([Account(version=5), Account(version=5, tally=made)]) == (
        Account(version=5, tally=made)
    )
