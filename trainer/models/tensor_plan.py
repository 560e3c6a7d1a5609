"""How the reference decoder is cut over `tp`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
)

from trainer.models.llama import Decoder
from trainer.models.spec import TensorPlan


class Replicated(ParallelStyle):
    """The same parameters and the same work on every tp rank; plain tensors in and out."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        distributed = distribute_module(module, device_mesh)
        distributed.register_forward_pre_hook(partial(self._enter, device_mesh))
        distributed.register_forward_hook(self._leave)
        return distributed

    @staticmethod
    def _enter(mesh: DeviceMesh, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *rest = inputs
        if not isinstance(first, DTensor):
            first = DTensor.from_local(first, mesh, [Replicate()], run_check=False)
        return (first, *rest)

    @staticmethod
    def _leave(_: nn.Module, inputs: tuple[Any, ...], output: DTensor) -> Tensor:
        return output.to_local()


def decoder_tensor_plan(
    model: nn.Module, sequence_parallel: bool, loss_parallel: bool
) -> TensorPlan:
    """Heads and feed-forward channels are cut; norms too, along the sequence, where asked."""
    assert isinstance(model, Decoder)
    between = Shard(1) if sequence_parallel else Replicate()
    norm = SequenceParallel if sequence_parallel else Replicated
    styles: dict[str, ParallelStyle] = {}
    if model.tok_embeddings is not None:
        styles["tok_embeddings"] = RowwiseParallel(
            input_layouts=Replicate(), output_layouts=between
        )
    for index in model.layers:
        layer = f"layers.{index}"
        for half, down, *up in (
            ("attention", "wo", "wq", "wk", "wv"),
            ("feed_forward", "w2", "w1", "w3"),
        ):
            styles[f"{layer}.{half}"] = PrepareModuleInput(
                input_layouts=(between,), desired_input_layouts=(Replicate(),)
            )
            styles |= {f"{layer}.{half}.{name}": ColwiseParallel() for name in up}
            styles[f"{layer}.{half}.{down}"] = RowwiseParallel(output_layouts=between)
        styles |= {f"{layer}.{name}": norm() for name in ("attention_norm", "ffn_norm")}
    if model.norm is not None:
        styles["norm"] = norm()
    if model.output is not None:
        styles["output"] = ColwiseParallel(
            input_layouts=between,
            output_layouts=Shard(-1) if loss_parallel else Replicate(),
            use_local_output=not loss_parallel,
        )
    return TensorPlan(styles=styles, loss_is_cut=loss_parallel and model.output is not None)
