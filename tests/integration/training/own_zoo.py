"""Loops as users write them, each with some state of another kind. One turn is one step.

Every loop takes the number of steps; what it has to say goes into `seen`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.optim import lr_scheduler, swa_utils

import trainer

Loop = Callable[[trainer.Run, int, list[Any]], None]
WIDTH = 8
ACCUMULATED = 3
"""Turns to an update."""


def batch(step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(step))
    return inputs[rank::world], inputs.sin().sum(1, keepdim=True)[rank::world]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 1))


def shard(model: nn.Module, run: trainer.Run) -> nn.Module:
    fully_shard(model, mesh=run.mesh)
    return model


def turn(model: nn.Module, run: trainer.Run, step: int) -> Tensor:
    """Forward and backward."""
    inputs, wanted = batch(step, run.rank, run.world_size)
    loss = functional.mse_loss(model(inputs), wanted)
    loss.backward()
    run.log(loss=loss)
    return loss


def adds_up(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """Gradients are added up over three turns, then one update."""
    model = shard(network(), run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        turn(model, run, step)
        if step % ACCUMULATED == ACCUMULATED - 1:
            optimizer.step()
            optimizer.zero_grad()


def adds_up_and_zeroes_first(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """The same, but it is before the next gradients that the used ones go, and to zeros."""
    model = shard(network(), run)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    run.state(model, optimizer)
    for step in run.steps(steps):
        if step % ACCUMULATED == 0:
            optimizer.zero_grad(set_to_none=False)
        turn(model, run, step)
        if step % ACCUMULATED == ACCUMULATED - 1:
            optimizer.step()


def rarely(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """Two optimizers, of which one makes a step every third turn."""
    often, seldom = shard(network(), run), shard(network(), run)
    model = nn.ModuleDict({"often": often, "seldom": seldom})
    first = torch.optim.Adam(often.parameters(), lr=1e-2)
    second = torch.optim.Adam(seldom.parameters(), lr=1e-2)
    run.state(model, first, second)
    for step in run.steps(steps):
        turn(often, run, step)
        first.step()
        first.zero_grad()
        if step % ACCUMULATED == ACCUMULATED - 1:
            turn(seldom, run, step)
            second.step()
            second.zero_grad()


def thaws(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """A frozen layer is in the optimizer from the start, and trained from turn 3 on."""
    model = network()
    model[0].requires_grad_(False)
    for layer in model:
        fully_shard(layer, mesh=run.mesh)
    fully_shard(model, mesh=run.mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        model[0].requires_grad_(step >= 3)
        turn(model, run, step)
        optimizer.step()
        optimizer.zero_grad()


def late_gradient(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """A part of the model that is used from turn 3 on, and one that never is."""
    model = nn.ModuleDict(
        {"body": network(), "late": nn.Linear(WIDTH, 1), "never": nn.Linear(2, 2)}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        inputs, wanted = batch(step)
        found = model["body"](inputs) + (model["late"](inputs) if step >= 3 else 0)
        functional.mse_loss(found, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()


def odd_parameters(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """Scalar, empty, integer, bfloat16, tied and frozen ones, and buffers of both kinds."""
    model = nn.Module()
    model.body, model.head = nn.Linear(WIDTH, 8), nn.Linear(8, WIDTH, bias=False)
    model.head.weight = nn.Parameter(torch.randn(WIDTH, 8))
    model.tied = nn.Linear(8, WIDTH, bias=False)
    model.tied.weight = model.head.weight
    model.scale = nn.Parameter(torch.tensor(1.0))
    model.nothing = nn.Parameter(torch.empty(0, 3))
    model.whole = nn.Parameter(torch.arange(4, dtype=torch.int8), requires_grad=False)
    model.low = nn.Parameter(torch.ones(WIDTH, dtype=torch.bfloat16))
    model.register_buffer("count", torch.zeros((), dtype=torch.int64))
    model.register_buffer("table", torch.arange(3.0), persistent=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        inputs, _ = batch(step)
        model.count += 1
        hidden = model.body(inputs * model.low.float()) * model.scale
        loss = (model.head(hidden) + model.tied(hidden)).square().mean() / model.count
        (loss + model.nothing.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(int(model.count))


def sparse(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """Sparse gradients of an embedding, with the optimizer for them."""
    model = nn.ModuleDict({"table": nn.Embedding(20, 4, sparse=True), "head": nn.Linear(4, 1)})
    first = torch.optim.SparseAdam(list(model["table"].parameters()), lr=1e-2)
    second = torch.optim.Adam(model["head"].parameters(), lr=1e-2)
    run.state(model, first, second)
    for step in run.steps(steps):
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(0, 20, (6,), generator=draw)
        model["head"](model["table"](rows)).square().mean().backward()
        for optimizer in (first, second):
            optimizer.step()
            optimizer.zero_grad()


def scaled(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """A gradient scaler that leaves out the first three updates, which overflow."""
    model = shard(network(), run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    run.state(model, optimizer, scaler=scaler)
    for step in run.steps(steps):
        inputs, wanted = batch(step)
        loss = functional.mse_loss(model(inputs), wanted) * (float("inf") if step < 3 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        seen.append(scaler.get_scale())


def averaged(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """A moving average of the weights."""
    model = network()
    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer, average=average)
    for step in run.steps(steps):
        turn(model, run, step)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        seen.append([float(p.detach().sum()) for p in average.parameters()])


class Best:
    """Begins as one kind of number and goes on as another."""

    def __init__(self) -> None:
        self.value: Any = 1

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def keeps_the_best(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """A number of numpy's among the values."""
    model, best = shard(network(), run), Best()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer, best=best)
    for step in run.steps(steps):
        loss = turn(model, run, step)
        optimizer.step()
        optimizer.zero_grad()
        best.value = min(best.value, np.float32(loss.item()))
        seen.append(best.value)


def draws(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """Random numbers of torch's and Python's."""
    model = shard(nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.5), nn.Linear(8, 1)), run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        turn(model, run, step)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(random.random())


def compiled(run: trainer.Run, steps: int, seen: list[Any]) -> None:
    """What torch.compile gives, handed over in the model's place."""
    model = torch.compile(shard(network(), run), backend="eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.state(model, optimizer)
    for step in run.steps(steps):
        turn(model, run, step)
        optimizer.step()
        optimizer.zero_grad()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=1e-2),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=1e-2),
    "Muon": lambda p: torch.optim.Muon([one for one in p if one.ndim == 2], lr=1e-2),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.5, centered=True),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=1e-2),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, dampening=0.1),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2), fused=True),
}
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [3, 5], 0.5),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.MultiStepLR(o, [2, 4], 0.5)],
        [4],
    ),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda turn: 1 / (turn + 1)),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
}


def with_optimizer(name: str) -> Loop:
    def loop(run: trainer.Run, steps: int, seen: list[Any]) -> None:
        # torch's own steps of these can't be made on shards.
        model = network() if name in ("Adafactor", "Rprop") else shard(network(), run)
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        run.state(model, optimizer)
        for step in run.steps(steps):
            turn(model, run, step)
            optimizer.step()
            model.zero_grad()

    return loop


def with_scheduler(name: str) -> Loop:
    def loop(run: trainer.Run, steps: int, seen: list[Any]) -> None:
        model = shard(network(), run)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[name](optimizer)
        run.state(model, optimizer, scheduler=scheduler)
        for step in run.steps(steps):
            turn(model, run, step)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step(*((1.0,) if name == "plateau" else ()))
            seen.append(optimizer.param_groups[0]["lr"])

    return loop


LOOPS: dict[str, Loop] = {
    **{
        loop.__name__: loop
        for loop in (
            adds_up,
            adds_up_and_zeroes_first,
            rarely,
            thaws,
            late_gradient,
            odd_parameters,
            sparse,
            scaled,
            averaged,
            keeps_the_best,
            draws,
            compiled,
        )
    },
    **{name: with_optimizer(name) for name in OPTIMIZERS},
    **{name: with_scheduler(name) for name in SCHEDULERS},
}


def bits(parameter: Tensor) -> bytes:
    """Of the whole parameter."""
    whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
    flat = whole.detach().clone().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
