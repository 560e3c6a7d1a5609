"""Any torch optimizer's state by the names of its parameters: tensors apart, the rest plain.

A parameter's state is there from its first gradient on. So a version has the state of some
parameters and not yet of others, and whoever takes it over needs as much of it and no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam

from trainer.checkpoint.fingerprint import digest_of
from trainer.errors import JobError

TORCHS_OWN = {kind for kind in vars(torch.optim).values() if isinstance(kind, type)}
"""Known to be resumable, so that none of their steps is made for nothing."""
Kept = Mapping[Tensor, dict[str, Any]]
Names = Mapping[int, str]
"""Of parameters, by their ids."""
WAY = (
    "give it the parameters that it had then, in the same groups and order, before run.state (one "
    "that is trained later can be in it from the start, with requires_grad_(False)); or start anew "
    "from the weights alone, in another checkpoint.directory"
)
"""How to go on where an optimizer is not what it was when the version was saved."""


def refuse(number: int, optimizer: Optimizer) -> None:
    """Raise JobError for an optimizer whose state could be saved, and never be taken up again."""
    if isinstance(optimizer, LBFGS):
        raise JobError(
            f"optimizer {number} is an LBFGS: its step computes gradients several times over, so "
            "that no step of it can be agreed on; take another"
        )
    if type(optimizer) not in TORCHS_OWN:
        before = snapshot(optimizer)
        try:
            make_state(optimizer)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise JobError(
                f"optimizer {number} (a {type(optimizer).__qualname__}) can't make its state by a "
                f"step along gradients of zero, and could never be resumed: {error}"
            ) from error
        finally:
            put_back(optimizer, before)


def snapshot(optimizer: Optimizer) -> Kept:
    """What it holds now; the tensors are the live ones."""
    return {parameter: dict(state) for parameter, state in optimizer.state.items()}


def put_back(optimizer: Optimizer, kept: Kept) -> None:
    """As it was at the snapshot, but for the values of the tensors."""
    optimizer.state.clear()
    optimizer.state.update(kept)


def make_state(optimizer: Optimizer) -> None:
    """Make the state that the first gradients make, by a step of rate 0 along gradients of zero.

    For every parameter that has none, also where it is frozen now. To be done before anything
    watches the optimizer's steps; its values are to be filled in.
    """
    groups = optimizer.param_groups
    rates = [group.get("lr") for group in groups]
    gradients = {p: p.grad for group in groups for p in group["params"]}
    for group in groups:
        if "lr" in group:
            rate = group["lr"]
            group["lr"] = torch.zeros_like(rate) if isinstance(rate, Tensor) else 0.0
    for parameter in gradients:
        parameter.grad = None if parameter in optimizer.state else _zeros(optimizer, parameter)
    try:
        optimizer.step()
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for group, rate in zip(groups, rates, strict=True):
            if "lr" in group:
                group["lr"] = rate


def _zeros(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    if not isinstance(optimizer, SparseAdam):
        return torch.zeros_like(parameter)
    return torch.sparse_coo_tensor(
        torch.empty(1, 0, dtype=torch.int64),
        parameter.new_empty(0, *parameter.shape[1:]),
        parameter.shape,
        device=parameter.device,
        check_invariants=False,
    )


def tensor_part(optimizer: Optimizer, names: Names) -> Iterator[tuple[str, Tensor]]:
    """`<parameter>/<key>` and tensor."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                yield f"{names[id(parameter)]}/{key}", value


def plain_part(optimizer: Optimizer, names: Names) -> dict[str, Any]:
    """The groups' settings, such as the rate that a scheduler has set, and counters.

    `members`: of each group how many parameters it has, and a digest of their names; `bare`: the
    parameters that have no state.
    """
    return {
        "groups": [
            {
                key: value.item() if isinstance(value, Tensor) else value
                for key, value in group.items()
                if key != "params"
            }
            for group in optimizer.param_groups
        ],
        "members": _members(optimizer, names),
        "bare": sorted(
            names[id(parameter)]
            for parameter in _parameters(optimizer)
            if parameter not in optimizer.state
        ),
        "state": {
            f"{names[id(parameter)]}/{key}": value
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
            if not isinstance(value, Tensor)
        },
    }


def drop_what_is_not_there(
    optimizer: Optimizer, names: Names, there: Collection[str], bare: Collection[str] | None
) -> None:
    """Leave the state of the parameters that have one in a version.

    `there`: the version's tensors, as `tensor_part` names them. `bare`: its `bare`; None where it
    does not say.
    """
    for parameter, state in list(optimizer.state.items()):
        name = names[id(parameter)]
        tensors = [f"{name}/{key}" for key, value in state.items() if isinstance(value, Tensor)]
        if name in (bare or ()) or (tensors and not any(tensor in there for tensor in tensors)):
            del optimizer.state[parameter]


def check_groups(
    number: int, optimizer: Optimizer, names: Names, there: Collection[str], plain: Any
) -> None:
    """Raise JobError where a version's groups are not the optimizer's; the rest as above."""
    told = f"optimizer {number}"
    mine = {names[id(parameter)] for parameter in _parameters(optimizer)}
    theirs = {tensor.rpartition("/")[0] for tensor in there}
    if gone := sorted(theirs - mine):
        raise JobError(f"{told} held {gone[0]} when it was saved, and does not now: {WAY}")
    bare = set(plain.get("bare", ()))
    stateless = {tensor.rpartition("/")[0] for tensor in plain["state"]}
    if "bare" in plain and (there or bare) and (new := sorted(mine - theirs - bare - stateless)):
        raise JobError(f"{told} did not hold {new[0]} when it was saved, and does now: {WAY}")
    had, has = len(plain["groups"]), len(optimizer.param_groups)
    if had != has:
        raise JobError(
            f"{told} had {had} group{'s' * (had != 1)} of parameters when it was saved, and has "
            f"{has} now: {WAY}"
        )
    for index, (members, now) in enumerate(
        zip(plain.get("members", []), _members(optimizer, names), strict=False)
    ):
        if members != now:
            raise JobError(
                f"group {index} of {told} held other parameters when it was saved ({members[0]}; "
                f"{now[0]} now): {WAY}"
            )


def put_plain(optimizer: Optimizer, names: Names, plain: Mapping[str, Any]) -> None:
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


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    return itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)


def _members(optimizer: Optimizer, names: Names) -> list[list[Any]]:
    return [
        [len(group["params"]), digest_of([names[id(parameter)] for parameter in group["params"]])]
        for group in optimizer.param_groups
    ]
