"""Gradients in flight: what a turn has left for a later one's update.

They are added to in place, by a backward of which nobody knows yet whether it will count. So what
belongs to a version is copied when the turn is over.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from trainer.errors import JobError
from trainer.worker.state import shard_of

Used = tuple[Callable[[], Tensor | None], int, int]
HIDDEN = (
    "gradients are added up over turns where they can't be kept (set_requires_gradient_sync or "
    "set_requires_all_reduce): let the last backward of each turn synchronize, or do all that "
    "belongs to one update in one turn"
)


class InFlight:
    """`kept`: of the last whole version, by the names of the parameters."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self._used: dict[int, Used] = {}
        """By parameter, the gradient that its optimizer has used: it, and its versions then."""

    def use(self, optimizer: Optimizer) -> None:
        """The optimizer has made a step: these gradients have done their work."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None:
                    self._used[id(parameter)] = (weakref.ref(gradient), *_versions(gradient))

    def settle(self, optimizers: Iterable[Optimizer], names: Mapping[int, str]) -> None:
        """A turn is over. Copy what no optimizer has used since it was added to."""
        found: dict[str, Tensor] = {}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad
                    if gradient is None or self._is_used(parameter, gradient):
                        continue
                    name = names[id(parameter)]
                    kept = self.kept.get(name)
                    if kept is None or kept.layout is not torch.strided:
                        kept = gradient.detach().clone()
                    else:
                        kept.copy_(gradient.detach())
                    found[name] = kept
        self.kept = found

    def prepare(self, names: Collection[str], parameters: Mapping[str, nn.Parameter]) -> None:
        """Have room for those of these parameters, and for no others."""
        self.kept = {
            name: self.kept.get(name, torch.zeros_like(parameters[name].detach()))
            for name in names
            if name in parameters
        }

    def put_back(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Give the parameters what they had."""
        for name, gradient in self.kept.items():
            parameters[name].grad = gradient.clone()

    def _is_used(self, parameter: Tensor, gradient: Tensor) -> bool:
        used = self._used.get(id(parameter))
        return used is not None and used[0]() is gradient and used[1:] == _versions(gradient)


def _versions(gradient: Tensor) -> tuple[int, int]:
    """What changes with every change of its values; a DTensor's shard counts for itself."""
    return gradient._version, shard_of(gradient)._version


def refuse_hidden(modules: Iterable[nn.Module]) -> None:
    """Raise JobError where FSDP keeps gradients of its own that belong to a later update."""
    for module in modules:
        for part in module.modules():
            if not isinstance(part, FSDPModule):
                continue
            for group in part._get_fsdp_state()._fsdp_param_groups:
                unsharded = (p.unsharded_accumulated_grad for p in group.fsdp_params)
                if any(kept is not None for kept in (group._partial_reduce_output, *unsharded)):
                    raise JobError(HIDDEN)
