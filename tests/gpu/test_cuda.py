"""On an accelerator: the same sums as on the CPU, and a job that trains."""

from __future__ import annotations

import pytest
import torch

from tests.integration.training.jobs import write_job
from tests.workers import Pool
from trainer.exact import peak_exponent, square_sum

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_the_sum_of_squares_has_the_same_limbs_as_on_the_cpu():
    values = torch.randn(3_000_001, generator=torch.Generator().manual_seed(0))
    exponent = peak_exponent([values])
    assert peak_exponent([values.cuda()]) == exponent
    assert square_sum([values.cuda()], exponent) == square_sum([values], exponent)


def test_a_job_trains_and_its_loss_falls(tmp_path):
    with Pool(tmp_path / "pool") as pool:
        said = pool.train(write_job(tmp_path / "job", compile={"enabled": True}), 1)
    losses = [message["loss"] for message in said[0] if message["type"] == "step"]
    assert losses[-1] < losses[0]
