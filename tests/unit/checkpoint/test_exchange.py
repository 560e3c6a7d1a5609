"""When a result counts: after the host has it, and has seen that the generation still stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from trainer.checkpoint.exchange import Exchange
from trainer.errors import ContactLost, GenerationOver


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Generation:
    """One that ends when it is told to."""

    def __init__(self) -> None:
        self.over = False
        self.story: list[str] = []
        self.exchange = Exchange(0, 1, None, stands=self._stands)

    def end(self) -> None:
        self.over = True

    def _stands(self) -> None:
        self.story.append("asked")
        if self.over:
            raise GenerationOver(1, "so")


@pytest.fixture
def generation() -> Generation:
    return Generation()


Use = Callable[[Exchange], object]
USES: dict[str, Use] = {
    "sum": lambda exchange: exchange.sum([3]),
    "largest": lambda exchange: exchange.largest(3),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


def test_alone_it_says_what_was_given(generation: Generation) -> None:
    assert generation.exchange.sum([3, -4]) == [3, -4]
    assert generation.exchange.largest(-4) == -4


@uses
def test_an_end_between_the_launch_and_the_read_is_seen(
    generation: Generation, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    """NCCL's calls return at once: what they come to is only there when the host has waited."""
    for read in ("tolist", "__int__"):
        plain = getattr(torch.Tensor, read)

        def reads(tensor: torch.Tensor, plain: Callable[..., object] = plain) -> object:
            generation.end()
            return plain(tensor)

        monkeypatch.setattr(torch.Tensor, read, reads)
    with pytest.raises(GenerationOver):
        use(generation.exchange)


@uses
def test_nothing_is_given_to_a_generation_that_is_over(
    generation: Generation, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    """Whoever has everybody's share is to know that each came after the end of all before it."""
    monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: pytest.fail("it was given"))
    generation.end()
    with pytest.raises(GenerationOver):
        use(generation.exchange)


def test_a_device_is_idle_before_the_generation_is_asked_for(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Exchange, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: generation.story.append("idle"))
    generation.exchange.settle()
    assert generation.story == ["idle", "asked"]


@pytest.mark.parametrize("factor", [0, 7])
def test_nonsense_is_refused_though_nobody_said_that_the_generation_is_over(
    generation: Generation, monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, **_: tensor.mul_(factor))
    with pytest.raises(ContactLost):
        generation.exchange.sum([3])
