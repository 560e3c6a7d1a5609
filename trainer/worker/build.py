"""What one rank trains in one generation: its model parts, their state, its share of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate

from trainer.data import Batches
from trainer.exact import Round, rounds
from trainer.job import Job
from trainer.models.buffers import names_within
from trainer.models.init import initial_value
from trainer.models.spec import ModelSpec
from trainer.parallel import Shapes, parallelize
from trainer.parallel.materialize import materialize
from trainer.worker.buffer_notes import Note, notes_on
from trainer.worker.buffer_sharing import BufferSharing, Change
from trainer.worker.buffers import ModelBuffers
from trainer.worker.state import ModelState, shard_of


class Training:
    """Everything a step works on."""

    def __init__(
        self,
        job: Job,
        spec: ModelSpec,
        batches: Batches,
        mesh: DeviceMesh,
        device: torch.device,
        *,
        pieces: int,
        generation: int,
    ) -> None:
        self.job = job
        self.mesh = mesh
        self.device = device
        self.batches = batches
        self.pieces = pieces
        shards = mesh["dp_shard"]
        self.dp_rank = mesh["dp_replicate"].get_local_rank() * shards.size() + (
            shards.get_local_rank()
        )
        self.data_size = mesh["dp_replicate"].size() * shards.size()
        self.rounds: list[Round] = rounds(pieces, self.data_size)
        samples = job.train.samples_per_microbatch(pieces)
        self.samples_per_step = pieces * job.train.microbatches * samples
        self.tokens_per_step = self.samples_per_step * job.data.seq_len
        self._parallel = parallelize(
            spec,
            job,
            mesh,
            shapes=Shapes(samples=samples, sequence=job.data.seq_len),
            scale=1.0 / self.tokens_per_step,
            device=device,
        )
        self._materialize(spec)
        modules = [part for _, part in self._parallel.parts]
        buffers = ModelBuffers(modules)
        # Taken now: FSDP puts other tensors in these places while it computes.
        parameters = {
            name: parameter for part in modules for name, parameter in part.named_parameters()
        }
        self.state = ModelState(
            job.train,
            parameters,
            buffers,
            device,
            generation=generation,
            facts={"seed": job.run.seed, "pieces": pieces},
            samples_per_step=self.samples_per_step,
        )
        self._sharing = BufferSharing(buffers, modules, mesh, device)
        self._compiled: set[str] = set()
        """The names of buffers in compiled code."""
        if job.compile.enabled:
            self._compiled = {
                name for part in modules for name in names_within(part, spec.blocks(part))
            }
        self.reports_loss = self._parallel.holds_last_stage and mesh["tp"].get_local_rank() == 0

    def _materialize(self, spec: ModelSpec) -> None:
        where = torch.device("cpu") if self.job.parallel.cpu_offload else self.device
        for _, part in self._parallel.parts:
            materialize(part, spec, where=where, device=self.device, seed=self.job.run.seed)
            part.train()

    def initialize(self, spec: ModelSpec) -> None:
        """Give each parameter its first value, keyed by (seed, name), box by box."""
        for name in self.state.parameters:
            tensor = self.state.local[f"model/{name}"]
            for part in tensor.parts:
                part.local.copy_(
                    initial_value(
                        spec.init_rule(name), name, tensor.shape, self.job.run.seed, part.box
                    )
                )

    def run_piece(self, tokens: Tensor, targets: Tensor, keys: Tensor) -> list[Tensor]:
        """The gradients of one piece; see trainer/parallel/piece.py."""
        return self._parallel.run_piece(tokens, targets, keys)

    def run_idle_piece(self, tokens: Tensor, targets: Tensor, keys: Tensor) -> None:
        """Take part in a round without a piece of one's own: nothing is left of it."""
        with self.state.buffers.untouched():
            self._parallel.run_piece(tokens, targets, keys)

    def share_buffers(self) -> list[Change]:
        """Every rank gets the first one's buffers; collective. See buffer_sharing.py."""
        return self._sharing.share()

    def notes_on(self, changes: Sequence[Change]) -> list[Note]:
        """What is to be told of them, by the one rank that speaks for its stage."""
        if self.dp_rank != 0 or self.mesh["tp"].get_local_rank() != 0:
            return []
        return notes_on(changes, data_size=self.data_size, compiled=self._compiled)

    def begin_round(self, work: Round, *, first: bool) -> None:
        """Make ready for the next piece of every rank; `first` of the step."""
        if first:
            self._sharing.begin_step()
        for fold in self._parallel.folds:
            fold.begin(work.live, first=first)
        if first or self._parallel.folds:
            # The fold holds the sum so far; FSDP would add it to what it gave us last round.
            self.state.drop_gradients()

    def counted_gradients(self) -> list[Tensor]:
        """The local shards whose squares this rank alone adds to the norm."""
        if self.mesh["dp_replicate"].get_local_rank() != 0:
            return []
        return [shard_of(gradient) for gradient in self.state.gradients() if _is_first(gradient)]


def _is_first(value: Tensor) -> bool:
    """Whether no rank before this one holds the same elements."""
    if not isinstance(value, DTensor):
        return True
    coordinate = value.device_mesh.get_coordinate()
    assert coordinate is not None
    return all(
        place == 0
        for place, placement in zip(coordinate, value.placements, strict=True)
        if isinstance(placement, Replicate)
    )
