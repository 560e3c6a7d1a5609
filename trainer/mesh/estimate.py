"""What a mesh costs: parameters, memory and idle time of a rank. Orders of magnitude, no promises.

State is counted at 16 bytes a parameter: the weight, its gradient and two moments in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.job import Job, Sizes
from trainer.job.parallel import INTERLEAVED, ZERO_BUBBLE
from trainer.mesh.plan import MeshPlan
from trainer.mesh.stages import stage_layers

STATE_BYTES = 16
KEPT_BYTES = 12
"""Of those, what outlives a step and is staged: all but the gradient."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ACTIVATION_VALUES = {"none": 17, "selective": 10, "full": 1}
"""Values of width `dim` that a block keeps for the backward pass, a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of the rank with the most to hold. Bytes; fractions of a step's time."""

    parameters: int
    parameters_of_rank: int
    state_bytes: int
    gathered_bytes: int
    activation_bytes: int
    bubble: float
    rounds: int
    idle: float

    @property
    def memory_bytes(self) -> int:
        return self.state_bytes + self.gathered_bytes + self.activation_bytes


def estimate(job: Job, mesh: MeshPlan, pieces: int) -> Estimate | None:
    """What the mesh costs, or None for a model whose sizes only its factory knows."""
    if job.model.factory is not None:
        return None
    sizes = job.model.sizes()
    width = _BYTES[job.parallel.param_dtype]
    held = max(rank_parameters(sizes, stages) for stages in _stages_of_ranks(job, mesh))
    sharded = -(-held // (mesh.dp_shard * mesh.tp))
    rounds = -(-pieces // mesh.dp)
    keeps_whole = job.parallel.reshard_after_forward == "never" or (
        job.parallel.reshard_after_forward == "auto" and mesh.pp > 1
    )
    whole = held if keeps_whole else max(sizes.layer_parameters, sizes.embedding_parameters)
    gathered = 0 if mesh.dp_shard == 1 else whole // mesh.tp * width
    return Estimate(
        parameters=sizes.parameters,
        parameters_of_rank=sharded,
        state_bytes=sharded * STATE_BYTES,
        gathered_bytes=gathered,
        activation_bytes=_activation_bytes(job, sizes, mesh, pieces, width),
        bubble=bubble(job.parallel.schedule, mesh.pp, job.train.microbatches, _virtual(job, mesh)),
        rounds=rounds,
        idle=1 - pieces / (rounds * mesh.dp),
    )


def kept_bytes_of_rank(job: Job, mesh: MeshPlan, pieces: int) -> int | None:
    """The bytes that a rank copies to shared memory for a checkpoint or a mirror, at most.

    Without mirrors, replicas write a share each. None for a model of a factory.
    """
    costs = estimate(job, mesh, pieces)
    if costs is None:
        return None
    replicas = 1 if job.elastic.mirror_every else mesh.dp_replicate
    return -(-costs.parameters_of_rank * KEPT_BYTES // replicas)


def bubble(schedule: str, ranks: int, microbatches: int, stages_per_rank: int) -> float:
    """Share of a piece's time in which a pipeline rank has nothing to do."""
    if ranks == 1:
        return 0.0
    work = microbatches * (stages_per_rank if schedule in INTERLEAVED | ZERO_BUBBLE else 1)
    if schedule in ZERO_BUBBLE:
        # Of the three parts of a microbatch the weight gradients can fill the gaps.
        work *= 3
    return (ranks - 1) / (work + ranks - 1)


def rank_parameters(sizes: Sizes, stages: list[tuple[range, bool, bool]]) -> int:
    """Parameters of some stages, each told by its layers and whether it is first and last."""
    total = 0
    for layers, first, last in stages:
        total += len(layers) * sizes.layer_parameters
        total += sizes.embedding_parameters if first else 0
        total += sizes.dim if last else 0
        total += sizes.embedding_parameters if last and not sizes.tied else 0
    return total


def decoder_stages(sizes: Sizes, count: int) -> tuple[range, ...]:
    """The layers of each stage; the head counts by its work, the embedding as half of that."""
    head = sizes.embedding_parameters / sizes.layer_parameters
    return stage_layers(sizes.layers, count, first_weight=head / 2, last_weight=head)


def _virtual(job: Job, mesh: MeshPlan) -> int:
    return job.parallel.virtual_stages if mesh.pp > 1 else 1


def _stages_of_ranks(job: Job, mesh: MeshPlan) -> list[list[tuple[range, bool, bool]]]:
    count = mesh.pp * _virtual(job, mesh)
    layers = decoder_stages(job.model.sizes(), count)
    held: list[list[tuple[range, bool, bool]]] = []
    for rank in range(mesh.pp):
        if job.parallel.schedule == "zbv" and mesh.pp > 1:
            indices = [rank, count - 1 - rank]
        else:
            indices = list(range(rank, count, mesh.pp))
        held.append([(layers[index], index == 0, index == count - 1) for index in indices])
    return held


def _activation_bytes(job: Job, sizes: Sizes, mesh: MeshPlan, pieces: int, width: int) -> int:
    tokens = job.train.samples_per_microbatch(pieces) * job.data.seq_len
    in_flight = 1
    if mesh.pp > 1:
        everything = job.parallel.schedule == "gpipe"
        in_flight = job.train.microbatches if everything else min(job.train.microbatches, mesh.pp)
    block = tokens * sizes.dim * _ACTIVATION_VALUES[job.parallel.activation_checkpoint]
    blocks = -(-sizes.layers // mesh.pp) * block * in_flight
    logits = tokens * sizes.vocab
    cut = mesh.tp if job.parallel.sequence_parallel else 1
    return blocks * width // cut + logits * 4 // (mesh.tp if job.parallel.loss_parallel else 1)
