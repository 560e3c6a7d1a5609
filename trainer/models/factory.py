"""From the `model` section to what training needs to know: the reference decoder's, or the user's.

A factory returns a `ModelSpec`, or a plain module: that one is trained with FSDP alone.

It is called on the meta device, so that a rank needs memory for its own part alone. Where its code
can't do without values (`.item()`, `from_pretrained`, a tensor that is no buffer), it is called for
real on the CPU, and what it makes loses its memory again until each rank has its part.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainer.errors import JobError
from trainer.job import Job
from trainer.job.factory import check_arguments, find_factory
from trainer.mesh import decoder_stages
from trainer.models.buffers import buffer_places
from trainer.models.init import InitRule
from trainer.models.llama import Decoder, decoder_init_rule, flops_per_token
from trainer.models.loss import summed_cross_entropy
from trainer.models.spec import ModelSpec, Stage
from trainer.models.tensor_plan import decoder_tensor_plan

log = logging.getLogger(__name__)


def build_spec(job: Job) -> ModelSpec:
    """What the job trains.

    Raises:
        JobError: the factory can't be found, can't be called or returns something else.
    """
    if job.model.factory is None:
        return decoder_spec(job)
    factory = find_factory(job.model.factory, "model.factory")
    arguments, what = job.model.args, f"model.factory ({job.model.factory})"
    check_arguments(factory, arguments, what)

    def make() -> Any:
        return factory(**arguments)

    made = _without_memory(make)
    if isinstance(made, ModelSpec):
        return made
    if made is not None and not isinstance(made, nn.Module):
        raise JobError(
            f"model.factory: {job.model.factory} returned {type(made).__name__}; "
            "it must return an nn.Module or a ModelSpec"
        )
    return module_spec(make, job.run.seed, needs_values=made is None or holds_meta_values(made))


def _without_memory(make: Callable[[], Any]) -> Any:
    """What the factory makes on the meta device; None where it can't do without values.

    What is wrong with it for another reason will be so on the CPU as well.
    """
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        log.info("the model is built on the CPU first: on the meta device, %s", error)
        return None


def holds_meta_values(module: nn.Module) -> bool:
    """Whether it has tensors without values that are no parameters and no buffers: nothing would
    ever give them any."""
    return any(
        isinstance(value, Tensor) and value.is_meta
        for part in module.modules()
        for name, held in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules")
        for value in _within(held)
    )


def _within(held: Any) -> Iterable[Any]:
    if isinstance(held, dict):
        return held.values()
    return held if isinstance(held, (list, tuple, set)) else (held,)


def decoder_spec(job: Job) -> ModelSpec:
    """The reference decoder and its plans."""
    sizes, seq_len, seed = job.model.sizes(), job.data.seq_len, job.run.seed

    def build(stage: Stage) -> Decoder:
        layers = decoder_stages(sizes, stage.count)[stage.index]
        return Decoder(
            sizes, seq_len, layers=layers, seed=seed, first=stage.is_first, last=stage.is_last
        )

    return ModelSpec(
        build=build,
        after_materialize=_reset_decoder_buffers,
        blocks=_decoder_blocks,
        init_rule=lambda name: decoder_init_rule(name, sizes.layers),
        loss=summed_cross_entropy,
        tensor_plan=None if sizes.tied else decoder_tensor_plan,
        shard_sequence=_shard_sequence,
        stages=1 if sizes.tied else sizes.layers,
        hidden_size=sizes.dim,
        vocab=sizes.vocab,
        flops_per_token=flops_per_token(sizes, seq_len),
    )


def _reset_decoder_buffers(module: nn.Module, device: torch.device) -> None:
    assert isinstance(module, Decoder)
    module.reset_buffers(device)


def _shard_sequence(module: nn.Module, rank: int, size: int) -> None:
    assert isinstance(module, Decoder)
    module.sequence_offset = rank * (module.seq_len // size)


def _decoder_blocks(module: nn.Module) -> Sequence[nn.Module]:
    assert isinstance(module, Decoder)
    return list(module.layers.values())


def _without_keys(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A user's module takes tokens alone, unless it has a parameter called `keys`."""
    return args[:1], {name: value for name, value in kwargs.items() if name != "keys"}


def module_spec(
    make: Callable[[], nn.Module], seed: int, *, needs_values: bool = False
) -> ModelSpec:
    """A plain module of the user's own, begun with the values its own code gives it.

    `make` is called on the CPU too, once, with torch's generator seeded, so that every rank
    and every mesh starts from the same values; each rank then holds the whole model for a while.
    `needs_values`: it can't be called on the meta device at all.
    """

    def build(stage: Stage) -> nn.Module:
        if not needs_values:
            return module_of(make())
        # Parameters and buffers alone become meta tensors: what else it holds keeps its values.
        return seeded().to("meta")

    def module_of(module: nn.Module) -> nn.Module:
        if "keys" not in inspect.signature(module.forward).parameters:
            module.register_forward_pre_hook(_without_keys, with_kwargs=True)
        return module

    def seeded() -> nn.Module:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            return module_of(make())

    @cache
    def whole() -> nn.Module:
        return seeded()

    def given(name: str) -> Callable[[], Tensor]:
        return lambda: whole().get_parameter(name).detach()

    def fill_buffers(module: nn.Module, device: torch.device) -> None:
        values = {place.name: place.get() for place in buffer_places(whole())}
        for place in buffer_places(module):
            buffer, value = place.get(), values[place.name]
            if buffer is not None and value is not None:
                buffer.copy_(value)

    return ModelSpec(
        build=build,
        after_materialize=fill_buffers,
        blocks=largest_list,
        init_rule=lambda name: InitRule("given", given=given(name)),
        loss=summed_cross_entropy,
    )


def largest_list(module: nn.Module) -> Sequence[nn.Module]:
    """The children of the module list that holds the most parameters: usually, the blocks."""
    lists = [
        part
        for part in module.modules()
        if isinstance(part, (nn.ModuleList, nn.ModuleDict, nn.Sequential))
    ]
    if not lists:
        return []
    chosen = max(lists, key=lambda part: sum(value.numel() for value in part.parameters()))
    return [child for child in chosen.children() if any(True for _ in child.parameters())]
