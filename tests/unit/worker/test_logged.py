"""What a loop of one's own may log of a step, and what it is told of the rest."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from trainer.worker.own.tally import loss_of, tokens_of


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (7, 7), (numpy.int64(7), 7), (torch.tensor(7), 7)]
)
def test_whole_numbers_of_every_make_are_a_count(value: object, count: int) -> None:
    assert tokens_of(value) == count  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 1 << 41, 2.5, "many", None, torch.tensor([1, 2])])
def test_what_is_no_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"log\(tokens=\) takes how many"):
        tokens_of(value)  # type: ignore[arg-type]


def test_a_loss_is_one_number_of_any_shape_without_its_graph() -> None:
    weight = torch.ones(1, requires_grad=True)
    loss = loss_of((weight * 3).sum())
    assert isinstance(loss, torch.Tensor)
    assert not loss.requires_grad
    assert float(loss) == 3.0
    assert loss_of(None) is None
    assert loss_of(2) == 2.0
    bad = loss_of(torch.full((1, 1), math.nan))
    assert bad is not None
    assert math.isnan(float(bad))


def test_a_loss_for_each_sample_is_refused_by_its_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \[4, 2\]"):
        loss_of(torch.zeros(4, 2))
