"""Activation checkpointing: which activations are computed again in the backward pass.

The second pass of a block's forward is no forward of its own: it finds the persistent buffers as
the first one found them, or its activations would be others, and leaves no trace in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from trainer.models.buffers import BufferPlace, buffer_places

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
"""What the first pass runs within, and the second."""

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
        places = [place for place in buffer_places(block) if place.persistent]
        chosen = dict(options)
        if places:
            # A block without such buffers keeps torch's own contexts, which are all that
            # torch.compile knows.
            inner = options.get("context_fn", _no_contexts)
            chosen["context_fn"] = partial(_with_buffers, places, inner)
        block.forward = partial(checkpoint, block.forward, **chosen)


def _keep(_context: object, operation: object, *_args: object, **_kwargs: object) -> object:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def _no_contexts() -> Contexts:
    return nullcontext(), nullcontext()


def _with_buffers(places: Sequence[BufferPlace], inner: Callable[[], Contexts]) -> Contexts:
    """The contexts of one forward: `inner`'s, and the buffers' around them."""
    first, second = inner()
    # The call of a forward begins here, and its first pass next.
    found = _copies([place.get() for place in places])
    return first, _Together(_AsFound(places, found), second)


def _copies(buffers: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A copy of each; those that are one tensor are one afterwards."""
    made: dict[int, Tensor] = {}
    for buffer in buffers:
        if buffer is not None and id(buffer) not in made:
            made[id(buffer)] = buffer.detach().clone()
    return [None if buffer is None else made[id(buffer)] for buffer in buffers]


class _AsFound:
    """Within, each place has a copy of what the first pass found there.

    Other tensors are put there, and the present ones back: what was saved for the backward pass
    may be those of either pass, and must not change under it.
    """

    def __init__(self, places: Sequence[BufferPlace], found: Sequence[Tensor | None]) -> None:
        self._places = places
        self._found = found
        self._present: list[Tensor | None] = []

    def __enter__(self) -> None:
        self._present = [place.get() for place in self._places]
        self._put(_copies(self._found))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put(self._present)
        self._present = []

    def _put(self, buffers: Sequence[Tensor | None]) -> None:
        for place, buffer in zip(self._places, buffers, strict=True):
            place.put(buffer)


class _Together:
    """Two contexts as one, the second within the first; torch may enter it once a backward."""

    def __init__(self, *parts: AbstractContextManager[Any]) -> None:
        self._parts = parts
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for part in self._parts:
                stack.enter_context(part)
            self._stack = stack.pop_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)
