"""A module leaves the meta device: what its buffers hold afterwards comes from its own code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainer.errors import JobError
from trainer.models import InitRule, ModelSpec, module_spec
from trainer.models.loss import summed_cross_entropy
from trainer.models.spec import Stage
from trainer.parallel.materialize import materialize

CPU = torch.device("cpu")


class Various(nn.Module):
    """Buffers of every kind that has to survive."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("drawn", torch.randn(5))
        self.register_buffer("shared", self.drawn)
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("flag", torch.tensor([True, False]), persistent=False)
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.register_buffer("wide", torch.arange(3).expand(2, 3))
        self.register_buffer("waves", torch.polar(torch.ones(3), torch.arange(3.0)))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("nothing", None)
        self.inner = nn.BatchNorm1d(3)
        self.same = self.inner


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def test_a_plain_modules_buffers_have_the_values_of_its_code() -> None:
    spec = module_spec(Various, seed=3)
    module = on_meta(lambda: spec.build(Stage(index=0, count=1)))
    materialize(module, spec, where=CPU, device=CPU, seed=3)
    torch.manual_seed(3)
    expected = Various()
    found = dict(module.named_buffers(remove_duplicate=False))
    for name, buffer in expected.named_buffers(remove_duplicate=False):
        assert torch.equal(found[name], buffer), name
    assert module.shared is module.drawn
    assert module.nothing is None


def spec_that(fills: Callable[[nn.Module, torch.device], None]) -> ModelSpec:
    return ModelSpec(
        build=lambda stage: Various(),
        after_materialize=fills,
        blocks=lambda module: [],
        init_rule=lambda name: InitRule("constant", 1.0),
        loss=summed_cross_entropy,
    )


def fill_all_but(*left_out: str) -> Callable[[nn.Module, torch.device], None]:
    def fill(module: nn.Module, device: torch.device) -> None:
        for name, buffer in module.named_buffers():
            if name not in left_out:
                buffer.copy_(torch.zeros_like(buffer))

    return fill


@pytest.mark.parametrize("name", ["count", "flag", "turned", "waves", "inner.num_batches_tracked"])
def test_a_buffer_that_nobody_fills_is_refused_by_name(name: str) -> None:
    spec = spec_that(fill_all_but(name))
    with pytest.raises(JobError, match=rf"the buffer {name} has no value: .*after_materialize"):
        materialize(on_meta(Various), spec, where=CPU, device=CPU, seed=0)


def test_every_way_to_fill_one_counts() -> None:
    def fill(module: nn.Module, device: torch.device) -> None:
        fill_all_but("drawn", "count", "flag")(module, device)
        module.drawn.data.fill_(2.0)
        module.count = torch.tensor(3)
        module.flag[0] = True

    module = on_meta(Various)
    materialize(module, spec_that(fill), where=CPU, device=CPU, seed=0)
    assert module.count == 3


def test_what_was_never_on_the_meta_device_keeps_its_values() -> None:
    def make() -> nn.Module:
        module = Various()
        module.register_buffer("table", torch.arange(4, device="cpu"))
        return module

    module = on_meta(make)
    materialize(module, spec_that(fill_all_but("table")), where=CPU, device=CPU, seed=0)
    assert module.table.tolist() == [0, 1, 2, 3]


def test_random_values_follow_from_the_seed_and_leave_the_generator_alone() -> None:
    def draw(module: nn.Module, device: torch.device) -> None:
        fill_all_but()(module, device)
        module.drawn.normal_()

    drawn = []
    for seed in (1, 1, 2):
        module = on_meta(Various)
        before = torch.get_rng_state()
        materialize(module, spec_that(draw), where=CPU, device=CPU, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(module.drawn)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
