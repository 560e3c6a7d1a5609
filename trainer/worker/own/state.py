"""The state of a user's loop: modules, optimizers, and whatever else has a state dict.

Parameters and the optimizers' tensors are the live ones: only the optimizers may change them.
What may change before a step is agreed on (buffers in a forward, a data loader's place) is
copied when a step is over, so that the state is always that of a whole version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.checkpoint.tensors import LocalTensor, local_tensors
from trainer.checkpoint.values import decode_plain, encode_plain
from trainer.errors import CheckpointError, JobError
from trainer.worker.own.optimizer import clear_state, make_state, plain_part, put_plain, tensor_part


class Stateful(Protocol):
    """A scheduler, a data loader, a counter: its state is plain values."""

    def state_dict(self) -> Mapping[str, Any]:
        """Numbers, strings, lists, dicts."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take them back."""


class OwnState:
    """One rank's part of it. `version` counts the steps that are over."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Sequence[Optimizer],
        extras: Mapping[str, Stateful],
    ) -> None:
        """Raises JobError where an optimizer holds what no module does."""
        self.version = 0
        self.made_in = 0
        self.local: Mapping[str, LocalTensor] = {}
        self.torn = False
        self.parameters = {
            f"{key}/{name}": parameter
            for key, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        self.optimizers = list(optimizers)
        self._modules = dict(modules)
        self._extras = dict(extras)
        self._buffers: dict[str, Tensor] = {}
        self._live: dict[str, Tensor] = {}
        self._plain: dict[str, Any] = {}
        known = {id(parameter): name for name, parameter in self.parameters.items()}
        self._names: list[dict[int, str]] = []
        for number, optimizer in enumerate(self.optimizers):
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            if any(id(parameter) not in known for parameter in held):
                raise JobError(
                    f"optimizer {number} holds a parameter that run.state was given in no module; "
                    "hand over the module as it is after sharding, and all of its parts"
                )
            self._names.append({id(parameter): known[id(parameter)] for parameter in held})
        self.settle(0, made_in=0)

    def settle(self, version: int, *, made_in: int) -> None:
        """A step is over: the state is whole again. Raises JobError for what can't be kept."""
        self.version, self.made_in = version, made_in
        self.torn = False
        for name, buffer in self._live_buffers():
            kept = self._buffers.get(name)
            if kept is None or kept.shape != buffer.shape:
                self._buffers[name] = buffer.detach().clone()
            else:
                kept.copy_(buffer.detach())
        try:
            self._plain = self._plain_now()
        except CheckpointError as error:
            raise JobError(f"run.state: {error}") from None
        self._look()

    def prepare(self) -> None:
        """Make the optimizers' tensors, so that they can be filled."""
        for optimizer in self.optimizers:
            make_state(optimizer)
        self._look()

    def unprepare(self) -> None:
        """There was nothing to fill them with."""
        for optimizer in self.optimizers:
            clear_state(optimizer)
        self._look()

    def weights(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers under their module's name."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()} | (
            self._buffers
        )

    def untrained(self) -> Collection[str]:
        """No name tells what is a buffer's: the user's optimizers hold what they hold."""
        return ()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers under their module's name, moments under `optim<n>/`."""
        return {name: tensor.detach() for name, tensor in self._live.items()}

    def values(self) -> dict[str, Any]:
        """What is plain about the version."""
        return {"version": self.version, "made_in": self.made_in, "own": self._plain}

    @torch.no_grad()
    def become(self, version: int, values: Mapping[str, Any]) -> None:
        """The tensors have been filled with this version."""
        self.version, self.made_in = version, int(values.get("made_in", 0))
        for name, buffer in self._live_buffers():
            buffer.copy_(self._buffers[name])
        plain = values.get("own", {})
        for number, optimizer in enumerate(self.optimizers):
            kept = plain.get(f"optim{number}")
            if kept is not None:
                put_plain(optimizer, self._names[number], decode_plain(kept))
        for name, extra in self._extras.items():
            if f"extra/{name}" in plain:
                extra.load_state_dict(decode_plain(plain[f"extra/{name}"]))
        self._plain = self._plain_now()

    def may_differ(self) -> Collection[str]:
        """Buffers, as each rank's forward sees other samples, and what the extras have to say."""
        return {*self._buffers, *(f"own/extra/{name}" for name in self._extras)}

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Rank 0's, of the extras."""
        self._plain |= {path.removeprefix("own/"): value for path, value in values.items()}

    def gradients(self) -> list[Tensor]:
        """The gradients there are."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def _plain_now(self) -> dict[str, Any]:
        found = {
            f"optim{number}": encode_plain(f"optim{number}", plain_part(optimizer, names))
            for number, (optimizer, names) in enumerate(
                zip(self.optimizers, self._names, strict=True)
            )
        }
        for name, extra in self._extras.items():
            found[f"extra/{name}"] = encode_plain(name, dict(extra.state_dict()))
        return found

    def _look(self) -> None:
        """Take note of the tensors there are now, where they are others than before."""
        live: dict[str, Tensor] = {**self.parameters, **self._buffers}
        for number, (optimizer, names) in enumerate(zip(self.optimizers, self._names, strict=True)):
            for name, tensor in tensor_part(optimizer, names):
                live[f"optim{number}/{name}"] = tensor
        if live.keys() != self._live.keys() or any(
            live[name] is not tensor for name, tensor in self._live.items()
        ):
            self._live = live
            self.local = local_tensors(self.tensors())

    def _live_buffers(self) -> Iterator[tuple[str, Tensor]]:
        for key, module in self._modules.items():
            for path, part in module.named_modules():
                for name, buffer in part.named_buffers(recurse=False):
                    if name not in part._non_persistent_buffers_set:
                        yield f"{key}/{path}.{name}" if path else f"{key}/{name}", buffer
