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
from trainer.worker.state import waiting_gradients

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
    values = json.loads(json.dumps(giver.values()))
    taker.prepare(waiting_gradients(values))
    lacks = set(taker.lacks(values))
    taker.fit([name for name in taker.tensors() if name not in lacks], values)
    assert taker.local.keys() == giver.local.keys()
    for name, tensor in giver.local.items():
        for part in tensor.parts:
            put_bytes(taker.local[name].view_of(part.box), tensor.bytes_of(part.box))
    taker.become(giver.version, values)
    taker.put_gradients_back()


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


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


def test_an_optimizer_that_can_not_be_resumed_is_refused_at_once():
    model = small()
    optimizers = [torch.optim.SGD(model.parameters()), torch.optim.LBFGS(model.parameters())]
    with pytest.raises(JobError, match="optimizer 1 is an LBFGS"):
        OwnState({"model": model}, optimizers, {})

    class Stubborn(torch.optim.SGD):
        def step(self, closure=None):
            raise TypeError("a closure is needed")

    with pytest.raises(JobError, match=r"optimizer 0 \(a .*Stubborn\) can't make its state"):
        OwnState({"model": model}, [Stubborn(model.parameters())], {})


def test_an_optimizer_of_somebody_elses_is_tried_and_left_as_it_was():
    class Counting(torch.optim.AdamW):
        """One that is not torch's own."""

    model = small()
    optimizer = Counting(model.parameters())
    before = [parameter.clone() for parameter in model.parameters()]
    OwnState({"model": model}, [optimizer], {})
    assert not optimizer.state
    assert all(map(torch.equal, before, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["gradients", "optim0", "a/b"])
def test_a_name_that_would_be_taken_for_another_is_refused(name):
    with pytest.raises(JobError, match="no name for an extra"):
        OwnState({"model": small(), name: small()}, [], {})


def saved(optimizer_of) -> tuple[OwnState, dict]:
    """After one step of a small model; the state, and its values as they are read again."""
    model = small()
    optimizer = optimizer_of(model)
    state = OwnState({"model": model}, [optimizer], {})
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    state.settle(1, made_in=1)
    return state, json.loads(json.dumps(state.values()))


CHANGES = {
    "held model/0.bias when it was saved, and does not now": (
        lambda model: torch.optim.AdamW(model.parameters()),
        lambda model: torch.optim.AdamW(model[1].parameters()),
    ),
    "did not hold model/0.bias when it was saved, and does now": (
        lambda model: torch.optim.AdamW(model[1].parameters()),
        lambda model: torch.optim.AdamW(model.parameters()),
    ),
    "had 1 group of parameters when it was saved, and has 2 now": (
        lambda model: torch.optim.AdamW(model.parameters()),
        lambda model: torch.optim.AdamW([{"params": part.parameters()} for part in model]),
    ),
    "group 0 of optimizer 0 held other parameters when it was saved": (
        lambda model: torch.optim.AdamW([{"params": part.parameters()} for part in model]),
        lambda model: torch.optim.AdamW([{"params": part.parameters()} for part in model[::-1]]),
    ),
}


@pytest.mark.parametrize("told", CHANGES)
def test_an_optimizer_that_is_another_than_it_was_is_told_so(told):
    before, after = CHANGES[told]
    giver, values = saved(before)
    model = small()
    taker = OwnState({"model": model}, [after(model)], {})
    taker.prepare()
    with pytest.raises(JobError, match=f"version 1: .*{told}.*before run.state"):
        taker.fit(giver.tensors().keys(), values)


def test_what_is_compiled_now_and_was_not_then_is_the_same(tmp_path):
    giver, values = saved(lambda model: torch.optim.AdamW(model.parameters()))
    model = torch.compile(small(), backend="eager")
    taker = OwnState({"model": model}, [torch.optim.AdamW(model.parameters())], {})
    assert giver.parameters.keys() == taker.parameters.keys()
    taker.prepare()
    assert taker.fit(giver.tensors().keys(), values).keys() == giver.tensors().keys()
    # Older versions had the wrapper in their names.
    old = [f"model/_orig_mod.{name.removeprefix('model/')}" for name in giver.parameters]
    assert set(old) <= taker.fit(old, {}).keys()


def test_gradients_of_an_update_that_is_done_are_nobodys_business():
    model = small()
    optimizer = torch.optim.AdamW(model.parameters())
    state = OwnState({"model": model}, [optimizer], {})
    optimizer.register_step_post_hook(lambda used, *_: state.used_by(used))
    for version in (1, 2):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        state.settle(version, made_in=1)
        assert not waiting_gradients(state.values())
    model(torch.ones(1, 2)).sum().backward()
    state.settle(3, made_in=1)
    assert waiting_gradients(state.values()) == sorted(state.parameters)
    kept = {name: tensor.clone() for name, tensor in state.tensors().items()}
    model(torch.ones(1, 2)).sum().backward()  # of a turn that may never count
    for name in waiting_gradients(state.values()):
        assert torch.equal(state.tensors()[f"gradients/{name}"], kept[f"gradients/{name}"])
