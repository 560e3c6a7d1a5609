"""Activation checkpointing: which activations are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops._c10d_functional.reduce_scatter_tensor.default,
}
"""What `selective` keeps: matrix products, attention and communication are dear to repeat."""


def recompute_blocks(blocks: Iterable[nn.Module], policy: str, *, keep_generator: bool) -> None:
    """Make each block recompute its activations, in place and without renaming its parameters.

    `keep_generator` has the second pass draw the random numbers of the first.
    """
    if policy == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": keep_generator}
    if policy == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keep)
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, **options)


def _keep(_context: object, operation: object, *_args: object, **_kwargs: object) -> object:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
