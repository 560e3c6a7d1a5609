"""One optimizer step, from the batch to the applied update. Flat on purpose: this is the story."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainer.checkpoint.exchange import Exchange
from trainer.exact import Round
from trainer.job.learning_rate import learning_rate
from trainer.parallel.piece import total
from trainer.worker.ballot import Verdict, Wish, agree
from trainer.worker.buffer_sharing import Change
from trainer.worker.build import Training

IGNORED = -100
"""The target that counts nothing, as torch's cross entropy has it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of step `step`, counted from 1: the version it made."""

    step: int
    verdict: Verdict
    lr: float
    tokens: int
    seconds: float
    cpu_seconds: float | None = None
    """Of processors, in that time; None where something else computes."""
    changes: Sequence[Change] = ()
    """The buffers that were seen to change for the first time."""


def train_step(
    training: Training, *, wish: Wish, at: Callable[[str], None], exchange: Exchange
) -> Applied:
    """Advance the state by one version.

    `at` is told each named point that the step passes, and may raise GenerationOver there.
    `exchange` is the generation's, over all its ranks: what it doesn't stand by changes nothing.
    """
    began, used = time.perf_counter(), time.process_time()
    state = training.state
    step = state.version
    losses: dict[int, float] = {}
    at("begin")

    for index, work in enumerate(training.rounds):
        training.begin_round(work, first=index == 0)
        loss = _run_piece(training, step, work)
        if loss is not None:
            losses[work.piece_of(training.dp_rank)] = loss
        at("piece")

    # Before the step is agreed on: who has agreed waits for nobody to make the next version.
    changes = training.share_buffers()
    # A collective that was cut may have left anything in gradients and buffers, and raised nothing.
    exchange.settle()
    state.gradients_whole = True
    at("gradients")
    found = agree(
        training.counted_gradients(),
        losses,
        pieces=training.pieces,
        wish=wish,
        exact=training.job.train.exact,
        exchange=exchange,
    )
    state.verdict = verdict = state.judged(found)
    at("agreed")

    state.apply(verdict)
    at("applied")
    return Applied(
        step=state.version,
        verdict=verdict,
        lr=learning_rate(training.job.train, step),
        tokens=training.tokens_per_step,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - used if training.device.type == "cpu" else None,
        changes=changes,
    )


def _run_piece(training: Training, step: int, work: Round) -> float | None:
    """Forwards and backwards; the piece's loss where this rank is the one to report it."""
    tokens, targets, keys = training.batches.batch(step, work.piece_of(training.dp_rank))
    counts = work.counts(training.dp_rank)
    if not counts:
        targets = targets.new_full(targets.shape, IGNORED)
    # For models that draw random numbers of their own: keyed by the piece, never by the rank.
    torch.manual_seed(piece_seed(training.job.run.seed, int(keys[0])))
    device = training.device
    piece = tokens.to(device), targets.to(device), keys.to(device)
    if not counts:
        training.run_idle_piece(*piece)
        return None
    losses = training.run_piece(*piece)
    return total(losses) if training.reports_loss else None


def piece_seed(seed: int, first_sample: int) -> int:
    """64 bits from the run's seed and the first sample of a piece. Pure."""
    digest = hashlib.blake2b(f"{seed}/{first_sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
