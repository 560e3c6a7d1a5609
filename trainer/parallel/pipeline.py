"""The pipeline: which stages a rank holds, and the schedule that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
)
from torch.distributed.pipelining.stage import _PipelineStageBase

from trainer.models.spec import Stage

_SINGLE: dict[str, type[PipelineScheduleSingle]] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
_MULTI: dict[str, type[PipelineScheduleMulti]] = {
    "interleaved1f1b": ScheduleInterleaved1F1B,
    "interleaved-zero-bubble": ScheduleInterleavedZeroBubble,
    "zbv": ScheduleZBVZeroBubble,
}


def stages_of_rank(rank: int, ranks: int, per_rank: int, schedule: str) -> list[Stage]:
    """The stages that pipeline rank `rank` holds, in the order the schedule wants them.

    ZBV folds the pipeline into a V: rank 0 holds the first and the last stage. The interleaved
    schedules deal stages out like cards.
    """
    count = ranks * per_rank
    if schedule == "zbv":
        indices = [rank, count - 1 - rank]
    else:
        indices = [rank + turn * ranks for turn in range(per_rank)]
    return [Stage(index=index, count=count) for index in indices]


def build_schedule(
    parts: Sequence[tuple[Stage, nn.Module]],
    mesh: DeviceMesh,
    *,
    schedule: str,
    microbatches: int,
    device: torch.device,
    loss: Callable[[Tensor, Tensor], Tensor],
    input_shape: Callable[[Stage], Tensor],
    output_shape: Callable[[Stage], Tensor],
) -> PipelineScheduleSingle | PipelineScheduleMulti:
    """Wrap the parts into stages and make the schedule that runs one piece.

    The shapes (tensors on meta) are known beforehand, so that no first microbatch has to be
    sent through the pipeline to find them.
    """
    stages: list[_PipelineStageBase] = [
        PipelineStage(
            module,
            stage.index,
            stage.count,
            device,
            input_args=input_shape(stage),
            output_args=output_shape(stage),
            group=mesh["pp"].get_group(),
        )
        for stage, module in parts
    ]
    if schedule in _SINGLE:
        return _SINGLE[schedule](
            stages[0], n_microbatches=microbatches, loss_fn=loss, scale_grads=False
        )
    return _MULTI[schedule](stages, n_microbatches=microbatches, loss_fn=loss, scale_grads=False)
