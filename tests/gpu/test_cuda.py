"""On an accelerator: the same sums as on the CPU, and a job that trains."""

from __future__ import annotations

import pytest
import torch

from tests.integration.training.jobs import write_job
from tests.workers import Pool
from trainer.checkpoint import Checkpointer
from trainer.checkpoint.writer import save_staged
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


def test_a_state_is_staged_while_the_device_goes_on(tmp_path):
    state = {"w": torch.randn(64 << 20, device="cuda"), "t": torch.randn(30, 20).cuda().t()}
    state["step"] = torch.tensor(3.0)
    checkpointer = Checkpointer(
        tmp_path / "c", identity={}, rank=0, world_size=1, generation=1, staging=tmp_path / "slots"
    )
    for version in (1, 2, 3):
        expected = {name: tensor.cpu().clone() for name, tensor in state.items()}
        staged = checkpointer.stage(version, state, {})
        assert staged is not None
        busy = torch.randn(2048, 2048, device="cuda")
        for _ in range(20):
            busy = busy @ busy / 2048
        description = staged.wait()
        state["w"].add_(1)
        assert save_staged(description).error is None
    pinned = [torch.from_numpy(memory).is_pinned() for memory in checkpointer._pins._held.values()]
    assert pinned == [True, True]
    checkpointer.close()
    found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    loaded = checkpointer.load(found)
    assert loaded is not None
    assert loaded.version == 3
    assert all(torch.equal(found[name].cpu(), expected[name]) for name in state)
