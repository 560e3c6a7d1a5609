"""What training needs to know of a model, beside the module itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ParallelStyle

from trainer.models.init import InitRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A run of consecutive layers: the `index`-th of `count` pipeline stages."""

    index: int
    count: int

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.count - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """Module name -> how it is cut over `tp`; names that a stage doesn't have are left out."""

    styles: Mapping[str, ParallelStyle]
    loss_is_cut: bool
    """Whether the logits come out cut along the vocabulary (loss parallel)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model and its plans.

    build(stage): the module on the meta device, holding only what the stage needs, under the
        names the whole model gives it. Its forward takes (tokens [samples, sequence] int64 on
        the first stage, else hidden [samples, sequence, dim]; keys [samples] int64, what
        dropout is keyed by) and returns hidden, or logits [samples, sequence, vocab] on the
        last stage.
    after_materialize(module, device): fills what is no parameter (buffers such as rope tables),
        once the module has left the meta device.
    blocks(module): the modules that are compiled, recomputed and sharded one by one.
    init_rule(name): how the parameter of that (whole-model) name begins.
    tensor_plan: None where the model can't be cut over `tp`; else called with (module,
        sequence_parallel, loss_parallel).
    shard_sequence(module, rank, size): tells the module which slice of the sequence its
        sequence-parallel parts see, so that dropout masks are the same for every tp.
    stages: the largest number of pipeline stages; 1 where the model can't be cut.
    hidden_size: the width of what passes between stages; 0 where the model can't be cut.
    loss(logits, targets): the SUM of the token losses; targets of -100 count nothing.
    """

    build: Callable[[Stage], nn.Module]
    after_materialize: Callable[[nn.Module, torch.device], None]
    blocks: Callable[[nn.Module], Sequence[nn.Module]]
    init_rule: Callable[[str], InitRule]
    loss: Callable[[Tensor, Tensor], Tensor]
    tensor_plan: Callable[[nn.Module, bool, bool], TensorPlan] | None = None
    shard_sequence: Callable[[nn.Module, int, int], None] | None = None
    stages: int = 1
    hidden_size: int = 0
    vocab: int = 0
    flops_per_token: float = 0.0
