"""Any torch optimizer's state by the names of its parameters: tensors apart, the rest plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainer.errors import JobError


def make_state(optimizer: Optimizer) -> None:
    """Make the state that the first step makes, by a step of rate 0 along no gradient.

    To be done before anything watches the optimizer's steps; its values are to be filled in.
    """
    if optimizer.state:
        return
    rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    for group in optimizer.param_groups:
        if "lr" in group:
            rate = group["lr"]
            group["lr"] = torch.zeros_like(rate) if isinstance(rate, Tensor) else 0.0
        for parameter in group["params"]:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip((g for g in optimizer.param_groups if "lr" in g), rates, strict=True):
        group["lr"] = rate


def clear_state(optimizer: Optimizer) -> None:
    """As if no step had been made."""
    optimizer.state.clear()


def tensor_part(optimizer: Optimizer, names: Mapping[int, str]) -> Iterator[tuple[str, Tensor]]:
    """`<parameter>/<key>` and tensor. `names` maps a parameter's id to its name.

    Raises JobError where only some parameters have a state: a rank that comes new to the run
    could not tell which.
    """
    keys: dict[str, set[str]] = {}
    for parameter, state in optimizer.state.items():
        name = names[id(parameter)]
        keys[name] = set(state)
        for key, value in state.items():
            if isinstance(value, Tensor):
                yield f"{name}/{key}", value
    trained = {
        names[id(p)] for group in optimizer.param_groups for p in group["params"] if p.requires_grad
    }
    bare = sorted(trained - keys.keys())
    if keys and bare:
        raise JobError(
            f"{bare[0]} got no gradient in the first step; give the optimizer the parameters that "
            "are trained in every step, and no others"
        )


def plain_part(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    """The groups' settings, such as the rate that a scheduler has set, and counters."""
    return {
        "groups": [
            {
                key: value.item() if isinstance(value, Tensor) else value
                for key, value in group.items()
                if key != "params"
            }
            for group in optimizer.param_groups
        ],
        "state": {
            f"{names[id(parameter)]}/{key}": value
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
            if not isinstance(value, Tensor)
        },
    }


def put_plain(optimizer: Optimizer, names: Mapping[int, str], plain: Mapping[str, Any]) -> None:
    """What `plain_part` gave, put back."""
    for group, kept in zip(optimizer.param_groups, plain["groups"], strict=True):
        for key, value in kept.items():
            if isinstance(group.get(key), Tensor):
                group[key].fill_(value)
            else:
                group[key] = value
    for parameter, state in optimizer.state.items():
        for key in state:
            name = f"{names[id(parameter)]}/{key}"
            if name in plain["state"]:
                state[key] = plain["state"][name]
