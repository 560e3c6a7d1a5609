"""What a plan does to a model: meta build, tensor, recompute, compile, shard, pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import parallelize_module

from trainer.errors import JobError
from trainer.exact import PieceFold
from trainer.job import Job
from trainer.models.spec import ModelSpec, Stage
from trainer.parallel.compilation import compile_blocks
from trainer.parallel.piece import PieceRunner, Pipelined, WholeModel
from trainer.parallel.pipeline import build_schedule, stages_of_rank
from trainer.parallel.recompute import recompute_blocks
from trainer.parallel.shard import shard, torch_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """A microbatch: `samples` sequences of `sequence` tokens."""

    samples: int
    sequence: int


@dataclass(slots=True, kw_only=True)
class Parallelized:
    """This rank's part of the model, its parameters still on the meta device."""

    parts: list[tuple[Stage, nn.Module]]
    run_piece: PieceRunner
    folds: list[PieceFold] = field(default_factory=list)

    @property
    def holds_last_stage(self) -> bool:
        return any(stage.is_last for stage, _ in self.parts)


def parallelize(
    spec: ModelSpec,
    job: Job,
    mesh: DeviceMesh,
    *,
    shapes: Shapes,
    scale: float,
    device: torch.device,
) -> Parallelized:
    """Build this rank's stages and cut them as `mesh` says.

    `scale` multiplies the summed token losses of every microbatch; it is one over the tokens of
    the global batch. Raises JobError where the model has no plan for what the mesh asks.
    """
    pp = mesh["pp"]
    section = job.parallel
    stages = stages_of_rank(
        pp.get_local_rank(), pp.size(), _stages_per_rank(job, pp.size()), section.schedule
    )
    if stages[0].count > spec.stages:
        raise JobError(
            f"the model can be cut into {spec.stages} pipeline stages, the job asks for "
            f"{stages[0].count}; lower parallel.pipeline or parallel.stages_per_rank"
        )
    parts: list[tuple[Stage, nn.Module]] = []
    folds: list[PieceFold] = []
    loss_is_cut = False
    for stage in stages:
        prepared = prepare_stage(spec, job, mesh, stage)
        loss_is_cut = prepared.loss_is_cut
        folds += prepared.folds
        parts.append((stage, prepared.module))
    return Parallelized(
        parts=parts,
        folds=folds,
        run_piece=_runner(spec, job, mesh, parts, shapes, scale, loss_is_cut, device),
    )


class PreparedStage(NamedTuple):
    """One stage, on the meta device, and how its parts are put together again."""

    module: nn.Module
    folds: list[PieceFold]
    loss_is_cut: bool


def prepare_stage(spec: ModelSpec, job: Job, mesh: DeviceMesh, stage: Stage) -> PreparedStage:
    """Build one stage and do to it, in order, all that the job asks for but the pipeline."""
    loss_is_cut = False
    with torch.device("meta"):
        module = spec.build(stage)
    _refuse_what_has_no_rows(module)
    if mesh["tp"].size() > 1:
        loss_is_cut = _cut_tensors(spec, module, job, mesh["tp"])
    blocks = spec.blocks(module)
    recompute_blocks(
        blocks,
        job.parallel.activation_checkpoint,
        # The reference decoder's dropout draws no random numbers.
        keep_generator=job.model.factory is not None,
    )
    if job.compile.enabled:
        compile_blocks(blocks, job.compile)
    folds = shard(module, blocks, mesh, job.parallel, exact=job.train.exact)
    return PreparedStage(module, folds, loss_is_cut)


def _refuse_what_has_no_rows(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.ndim == 0:
            raise JobError(
                f"the parameter {name} has no dimension along which it could be shared out; give "
                "it one, as nn.Parameter(torch.ones(1))"
            )
        if parameter.numel() == 0:
            raise JobError(f"the parameter {name} has no elements; leave it out")


def _stages_per_rank(job: Job, ranks: int) -> int:
    return job.parallel.virtual_stages if ranks > 1 else 1


def _cut_tensors(spec: ModelSpec, module: nn.Module, job: Job, tp: DeviceMesh) -> bool:
    if spec.tensor_plan is None:
        raise JobError(
            "the model has no plan for tensor parallelism; set parallel.tensor to 1, or let its "
            "factory return a ModelSpec with a tensor_plan"
        )
    section = job.parallel
    plan = spec.tensor_plan(module, section.sequence_parallel, section.loss_parallel)
    parallelize_module(module, tp, dict(plan.styles))
    if section.sequence_parallel and spec.shard_sequence is not None:
        spec.shard_sequence(module, tp.get_local_rank(), tp.size())
    return plan.loss_is_cut


def _runner(
    spec: ModelSpec,
    job: Job,
    mesh: DeviceMesh,
    parts: list[tuple[Stage, nn.Module]],
    shapes: Shapes,
    scale: float,
    loss_is_cut: bool,
    device: torch.device,
) -> PieceRunner:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return spec.loss(logits, targets) * scale

    microbatches = job.train.microbatches
    if mesh["pp"].size() == 1:
        return WholeModel(parts[0][1], loss, microbatches=microbatches, cut_loss=loss_is_cut)
    input_shape, output_shape = _stage_shapes(spec, job, mesh, shapes)
    schedule = build_schedule(
        parts,
        mesh,
        schedule=job.parallel.schedule,
        microbatches=microbatches,
        device=device,
        loss=loss,
        input_shape=input_shape,
        output_shape=output_shape,
    )
    return Pipelined(
        schedule,
        first=any(stage.is_first for stage, _ in parts),
        last=any(stage.is_last for stage, _ in parts),
        cut_loss=loss_is_cut,
    )


def _stage_shapes(
    spec: ModelSpec, job: Job, mesh: DeviceMesh, shapes: Shapes
) -> tuple[Callable[[Stage], Tensor], Callable[[Stage], Tensor]]:
    """The microbatch that enters and leaves each stage, as tensors on the meta device."""
    tp = mesh["tp"].size()
    dtype = torch_dtype(job.parallel.param_dtype)
    cut = tp if job.parallel.sequence_parallel else 1
    tokens = torch.empty((shapes.samples, shapes.sequence), dtype=torch.int64, device="meta")
    hidden = torch.empty(
        (shapes.samples, shapes.sequence // cut, spec.hidden_size),
        dtype=dtype,
        device="meta",
        requires_grad=True,
    )
    logits = torch.empty((shapes.samples, shapes.sequence, spec.vocab), dtype=dtype, device="meta")
    return (
        lambda stage: tokens if stage.is_first else hidden,
        lambda stage: logits if stage.is_last else hidden,
    )
