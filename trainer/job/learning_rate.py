"""The learning rate of a step, a pure function of the job and the step."""

from __future__ import annotations

import math

from trainer.job.train import TrainSection


def learning_rate(train: TrainSection, step: int) -> float:
    """`step` counts from 0. Warm-up is linear; then constant, linear or cosine decay."""
    schedule = train.schedule
    peak = train.optimizer.lr
    if step < schedule.warmup:
        return peak * (step + 1) / schedule.warmup
    if schedule.decay == "constant":
        return peak
    progress = min(1.0, (step - schedule.warmup) / max(1, train.steps - schedule.warmup))
    share = 1.0 - progress if schedule.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return peak * (schedule.min_ratio + (1.0 - schedule.min_ratio) * share)
