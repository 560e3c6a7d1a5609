"""torch.compile, block by block, in place."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from trainer.job import CompileSection


def compile_blocks(blocks: Iterable[nn.Module], section: CompileSection) -> None:
    """Compile each block by itself: one graph serves all blocks of a shape, and every mesh.

    Dynamo keeps its cache for as long as the process lives, so the blocks of the next
    generation find the code of this one.
    """
    for block in blocks:
        block.compile(
            backend=section.backend,
            mode=None if section.mode == "default" else section.mode,
            fullgraph=section.fullgraph,
            dynamic=False,
        )
