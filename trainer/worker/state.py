"""The state that training changes: parameters, moments, buffers, a version, and a step under way.

It outlives the generation that made it: the process groups and modules go, this stays until the
next generation has taken over what it needs of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.checkpoint.tensors import LocalTensor, local_tensors
from trainer.job import TrainSection
from trainer.job.learning_rate import learning_rate
from trainer.worker.ballot import Verdict
from trainer.worker.buffers import ModelBuffers
from trainer.worker.numbers import Numbers
from trainer.worker.optimizer import make_optimizer, optimizer_tensors, set_optimizer_step


class State(Protocol):
    """What training changes, as one rank holds it; `version` counts the steps it has seen."""

    version: int
    made_in: int
    """The generation that made the version; one that is made anew later is another one."""

    @property
    def local(self) -> Mapping[str, LocalTensor]:
        """The parts that this rank holds."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by the name that the whole model gives it."""

    def untrained(self) -> Collection[str]:
        """The names of those tensors that are the model's and no optimizer's."""

    def saved_buffers(self) -> Collection[str]:
        """The names of those that are buffers, where a name tells."""

    def values(self) -> dict[str, Any]:
        """What belongs to the version beside tensors: plain, and the same on every rank."""

    def lacks(self, values: Mapping[str, Any]) -> Collection[str]:
        """The names of those tensors that the version with these values does not have."""

    def fit(self, names: Collection[str], values: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Be of the tensors that a version has, so far as it can be; returns them by its names."""

    def become(self, version: int, values: Mapping[str, Any]) -> None:
        """The tensors have been filled with this version; `values` were kept beside them."""

    def may_differ(self) -> Collection[str]:
        """What may have another value on each rank: names of tensors that are kept apart from the
        live ones, and paths of values (`own/extra/loader`). Rank 0's count."""

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Rank 0's, of the values that may differ, by their paths."""


class ModelState:
    """One rank's shards, by the names that the whole model gives them.

    `version` counts the optimizer steps the state has seen. `gradients_whole` says that this
    rank has computed all its pieces of the next one; `verdict` that all ranks have. `made_by`
    is the verdict that made the present version. Steps are computed in `generation`.
    """

    def __init__(
        self,
        train: TrainSection,
        parameters: Mapping[str, nn.Parameter],
        buffers: ModelBuffers,
        device: torch.device,
        *,
        generation: int,
        facts: Mapping[str, Any],
        samples_per_step: int,
    ) -> None:
        """`facts` are kept beside every version, for people and other programs to read."""
        self._train = train
        self._facts = dict(facts)
        self._samples_per_step = samples_per_step
        self.parameters = dict(parameters)
        self.buffers = buffers
        self._shards = {
            name: shard_of(parameter)
            for name, parameter in parameters.items()
            if parameter.requires_grad
        }
        """The local parts of what is trained."""
        self.optimizer = make_optimizer(train.optimizer, self._shards, device)
        self.generation = generation
        self.version = 0
        self.made_in = 0
        self.gradients_whole = False
        self.verdict: Verdict | None = None
        self.made_by: Verdict | None = None
        self.numbers = Numbers()
        self.local: dict[str, LocalTensor] = local_tensors(self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers under `model/`, moments under `optim/`."""
        return {
            **{f"model/{name}": tensor for name, tensor in self.weights().items()},
            **{
                f"optim/{name}": tensor
                for name, tensor in optimizer_tensors(self.optimizer, self._shards, self.parameters)
            },
        }

    def weights(self) -> dict[str, Tensor]:
        """What `state_dict` calls the model: parameters and persistent buffers, by name."""
        parameters = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return parameters | self.buffers.kept

    def untrained(self) -> Collection[str]:
        """The buffers, and what is frozen, under `model/`."""
        frozen = self.parameters.keys() - self._shards.keys()
        return {f"model/{name}" for name in (*self.buffers.kept, *frozen)}

    def saved_buffers(self) -> Collection[str]:
        """Under `model/`."""
        return {f"model/{name}" for name in self.buffers.kept}

    def values(self) -> dict[str, Any]:
        """Every random key follows from these and the job."""
        return {
            "version": self.version,
            "made_in": self.made_in,
            "sample": self.version * self._samples_per_step,
            **self._facts,
            "numbers": self.numbers.plain(),
        }

    def lacks(self, values: Mapping[str, Any]) -> Collection[str]:
        """None: every version has all."""
        return ()

    def fit(self, names: Collection[str], values: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """They are the same in every version."""
        return self.tensors()

    def become(self, version: int, values: Mapping[str, Any]) -> None:
        """The tensors have been filled with this version."""
        self.version, self.made_by = version, None
        self.made_in = int(values.get("made_in", 0))
        self.numbers = Numbers.of(values.get("numbers", {}))
        self.buffers.put_back(self.buffers.kept)
        set_optimizer_step(self.optimizer, version - self.numbers.skipped)

    def may_differ(self) -> Collection[str]:
        """Nothing."""
        return ()

    def take_values(self, values: Mapping[str, Any]) -> None:
        """There are none."""

    def gradients(self) -> list[Tensor]:
        """The gradients there are: DTensors, or plain tensors."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def drop_gradients(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def judged(self, verdict: Verdict) -> Verdict:
        """The verdict on the next step, with what is bad about its numbers."""
        bad = self.numbers.judge(self.version + 1, verdict.loss, verdict.norm, self._train.spike)
        return replace(verdict, bad=bad, generation=self.generation)

    def apply(self, verdict: Verdict) -> None:
        """Clip and update this rank's shards; a step with bad numbers updates nothing.

        The buffers become what the step's forwards have made of them, or what they were before.
        Nothing here waits for another rank, and nothing interrupts it, so a version is either
        made or not.
        """
        train, step = self._train, self.version + 1
        if verdict.bad is None:
            self._update(verdict)
            self.buffers.settle()
            remember = train.spike is not None
            self.numbers = self.numbers.after_good(verdict.loss, verdict.norm, remember=remember)
        else:
            self.buffers.put_back()
            condemn = train.on_bad_numbers == "rollback"
            self.numbers = self.numbers.after_bad(step, condemn=condemn)
        self.drop_gradients()
        self.version, self.made_in = step, verdict.generation
        self.gradients_whole = False
        self.verdict, self.made_by = None, verdict

    def _update(self, verdict: Verdict) -> None:
        if self._train.clip is not None:
            # The same float64 on every rank, so that every shard is scaled by the same bits.
            factor = min(1.0, self._train.clip / (verdict.norm + 1e-6))
            torch._foreach_mul_([shard_of(gradient) for gradient in self.gradients()], factor)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._train, self.version)
        for name, shard in self._shards.items():
            gradient = self.parameters[name].grad
            shard.grad = None if gradient is None else shard_of(gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def waiting_gradients(values: Mapping[str, Any]) -> Collection[str]:
    """The parameters whose gradients a version keeps for a later turn's update, by its values."""
    names: Collection[str] = values.get("own", {}).get("gradients", ())
    return names


def shard_of(value: Tensor) -> Tensor:
    """The local part of a DTensor, or the tensor itself."""
    return value._local_tensor if isinstance(value, DTensor) else value.detach()
