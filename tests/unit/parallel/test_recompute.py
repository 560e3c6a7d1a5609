"""Activations that are computed twice: a buffer sees one forward, not two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.parallel.recompute import recompute_blocks


class Reading(nn.Module):
    """Its activations depend on buffers that it changes first: two of them are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("also_seen", self.seen)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("nothing", None)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        with torch.no_grad():
            self.mean = 0.9 * self.mean + 0.1 * values.mean(0)
        return torch.tanh(self.norm(self.inner(values - self.mean))) * self.also_seen


def trained(policy: str, microbatches: int) -> dict[str, torch.Tensor]:
    """Buffers and gradients after two forwards and backwards of all microbatches, interleaved as a
    pipeline does it: all forwards, then all backwards."""
    torch.manual_seed(0)
    block = Reading()
    assert block.seen is block.also_seen
    recompute_blocks([block], policy, keep_generator=True)
    for _ in range(2):
        losses = [block(torch.randn(8, 4)).square().sum() for _ in range(microbatches)]
        for loss in losses:
            loss.backward()
    return {**dict(block.named_buffers()), **{n: p.grad for n, p in block.named_parameters()}}


@pytest.mark.parametrize("policy", ["full", "selective"])
def test_the_second_pass_finds_what_the_first_one_found_and_leaves_no_trace(policy):
    expected, found = trained("none", 1), trained(policy, 1)
    assert expected["seen"] == 2
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_microbatches_in_flight_have_their_own():
    found = trained("full", 3)
    assert found["seen"] == found["norm.num_batches_tracked"] == 6


def test_a_graph_that_is_gone_back_over_twice_gives_its_gradients_twice():
    torch.manual_seed(0)
    block = Reading()
    recompute_blocks([block], "full", keep_generator=True)
    loss = block(torch.randn(8, 4)).square().sum()
    loss.backward(retain_graph=True)
    once = block.inner.weight.grad.clone()
    loss.backward()
    assert torch.equal(block.inner.weight.grad, 2 * once)
    assert block.seen == 1


def test_what_fails_in_the_second_pass_leaves_the_buffers_in_their_places():
    block = Reading()
    recompute_blocks([block], "full", keep_generator=True)
    loss = block(torch.randn(8, 4)).square().sum()
    seen, mean = block.seen, block.mean

    def fails(module: nn.Module, inputs: object) -> None:
        raise RuntimeError("lost")

    block.norm.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="lost"):
        loss.backward()
    assert block.seen is seen
    assert block.mean is mean
    assert block.seen == 1
