"""The pieces of every global batch, as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.data.samples import Samples, open_samples
from trainer.job import Job


class Piece(NamedTuple):
    """One piece: tokens and targets [samples, seq_len], keys [samples], all int64.

    A sample's key is its index in the stream; dropout is keyed by it.
    """

    tokens: Tensor
    targets: Tensor
    keys: Tensor


class Batches:
    """Which samples a step and a piece use: the same on any mesh."""

    def __init__(self, samples: Samples, *, pieces: int, samples_per_piece: int) -> None:
        self._samples = samples
        self._pieces = pieces
        self._samples_per_piece = samples_per_piece

    @property
    def samples_per_step(self) -> int:
        return self._pieces * self._samples_per_piece

    def indices(self, step: int, piece: int) -> range:
        """The stream's samples that piece `piece` of step `step` (both from 0) takes."""
        if not 0 <= piece < self._pieces:
            raise IndexError(f"piece {piece} is not within 0 … {self._pieces - 1}")
        first = step * self.samples_per_step + piece * self._samples_per_piece
        return range(first, first + self._samples_per_piece)

    def batch(self, step: int, piece: int) -> Piece:
        """The piece's samples, on the CPU."""
        indices = self.indices(step, piece)
        rows = torch.from_numpy(np.stack([self._samples[index] for index in indices]))
        keys = torch.arange(indices.start, indices.stop, dtype=torch.int64)
        return Piece(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), keys)


def open_batches(job: Job, *, pieces: int | None = None) -> Batches:
    """The job's batches; raises JobError as `open_samples` and `Job.pieces` do."""
    pieces = job.pieces() if pieces is None else pieces
    per_piece = job.train.microbatches * job.train.samples_per_microbatch(pieces)
    return Batches(open_samples(job), pieces=pieces, samples_per_piece=per_piece)
