"""Models of the user's own: a plain module, one with keys, one with a plan, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.errors import JobError
from trainer.job import from_mapping
from trainer.models import Stage, build_spec, initial_value

CPU = torch.device("cpu")
WHOLE = Stage(index=0, count=1)


@pytest.fixture(autouse=True)
def users_models(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


def spec_of(function, seed=0, **arguments):
    return build_spec(
        from_mapping(
            {
                "model": {"factory": f"models_of_users:{function}", "args": arguments},
                "run": {"seed": seed},
            }
        )
    )


def materialize(spec):
    with torch.device("meta"):
        module = spec.build(WHOLE)
    assert all(parameter.is_meta for parameter in module.parameters())
    module.to_empty(device=CPU)
    with torch.no_grad():
        spec.after_materialize(module, CPU)
        for name, parameter in module.named_parameters():
            parameter.copy_(initial_value(spec.init_rule(name), name, parameter.shape, 0))
    return module


def test_a_plain_module_starts_from_its_own_values():
    state = torch.random.get_rng_state()
    first, again = materialize(spec_of("bigram")), materialize(spec_of("bigram"))
    other = materialize(spec_of("bigram", seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(first.scale, torch.linspace(1.0, 2.0, 8))


def test_a_plain_module_never_sees_the_keys_and_keeps_its_names():
    spec = spec_of("bigram", width=4)
    module = materialize(spec)
    assert "table.weight" in dict(module.named_parameters())
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    assert module(tokens, torch.tensor([1, 2])).shape == (2, 5, 256)
    assert module(tokens, keys=torch.tensor([1, 2])).shape == (2, 5, 256)
    assert [type(block).__name__ for block in spec.blocks(module)] == ["Linear", "Linear"]
    assert (spec.stages, spec.tensor_plan) == (1, None)


def test_a_module_that_asks_for_keys_gets_them():
    module = materialize(spec_of("keyed"))
    tokens, keys = torch.zeros(2, 5, dtype=torch.int64), torch.tensor([1, 2])
    difference = module(tokens, keys)[1] - module(tokens, keys)[0]
    torch.testing.assert_close(difference, torch.ones_like(difference))


def test_a_factory_may_return_a_whole_plan():
    spec = spec_of("planned")
    assert spec.stages == 2
    assert spec.tensor_plan is not None


@pytest.mark.parametrize(
    ("factory", "arguments", "expected"),
    [
        ("no_such_package:f", {}, "can't import no_such_package"),
        ("models_of_users:none", {}, "models_of_users has no function none"),
        ("models_of_users:wrong", {}, "returned str; it must return an nn.Module or a ModelSpec"),
        ("models_of_users:bigram", {"widht": 3}, "its args don't fit"),
    ],
)
def test_mistakes(factory, arguments, expected):
    job = from_mapping({"model": {"factory": factory, "args": arguments}})
    with pytest.raises(JobError) as caught:
        build_spec(job)
    assert expected in str(caught.value)
