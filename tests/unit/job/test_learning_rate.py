"""The learning rate over the steps."""

from __future__ import annotations

import pytest

from trainer.job import OptimizerSection, ScheduleSection, TrainSection
from trainer.job.learning_rate import learning_rate


def section(**schedule) -> TrainSection:
    return TrainSection(
        steps=100, optimizer=OptimizerSection(lr=1.0), schedule=ScheduleSection(**schedule)
    )


def test_warm_up_rises_to_the_peak():
    train = section(warmup=10)
    assert learning_rate(train, 0) == pytest.approx(0.1)
    assert learning_rate(train, 9) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("decay", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0)]
)
def test_decay(decay, middle):
    train = section(decay=decay, min_ratio=0.1)
    assert learning_rate(train, 0) == pytest.approx(1.0)
    assert learning_rate(train, 50) == pytest.approx(middle)
    assert learning_rate(train, 100) == pytest.approx(1.0 if decay == "constant" else 0.1)


def test_stopping_early_does_not_change_the_schedule():
    stopped = section(warmup=10).model_copy(update={"stop_at": 20})
    assert learning_rate(stopped, 15) == learning_rate(section(warmup=10), 15)
