"""The state of a user's loop: modules, optimizers, and whatever else has a state dict.

Parameters and the optimizers' tensors are the live ones: only the optimizers may change them.
What may change before a step is agreed on (buffers in a forward, a data loader's place, gradients
that wait for a later turn's update) is copied when a step is over, so that the state is always that
of a whole version.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.checkpoint.tensors import LocalTensor, local_tensors
from trainer.checkpoint.values import decode_plain, encode_plain
from trainer.errors import CheckpointError, JobError
from trainer.worker.own.gradients import InFlight, refuse_hidden
from trainer.worker.own.optimizer import (
    Kept,
    check_groups,
    drop_what_is_not_there,
    make_state,
    plain_part,
    put_back,
    put_plain,
    refuse,
    snapshot,
    tensor_part,
)

COMPILED = "_orig_mod."
"""What torch.compile puts into the names of what it wraps: no part of what is wrapped."""
GRADIENTS = "gradients"
RESERVED = re.compile(r"gradients|optim\d+|.*/.*")
"""Names that would be taken for others'."""


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
        """Raises JobError for what could not be kept, or not be taken up again."""
        for name in (*modules, *extras):
            if RESERVED.fullmatch(name):
                raise JobError(f"run.state: {name!r} is no name for an extra; call it otherwise")
        self.version = 0
        self.made_in = 0
        self.local: Mapping[str, LocalTensor] = {}
        self.torn = False
        self.parameters = {
            f"{key}/{name.replace(COMPILED, '')}": parameter
            for key, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        self.optimizers = list(optimizers)
        self._modules = dict(modules)
        self._extras = dict(extras)
        self._buffers: dict[str, Tensor] = {}
        self._live: dict[str, Tensor] = {}
        self._plain: dict[str, Any] = {}
        self._names = {id(parameter): name for name, parameter in self.parameters.items()}
        """Of the parameters, by their ids."""
        self._before: list[Kept] = []
        """What each optimizer held before `prepare`."""
        self._in_flight = InFlight()
        self._check_parameters()
        for number, optimizer in enumerate(self.optimizers):
            refuse(number, optimizer)
        self.settle(0, made_in=0)

    def _check_parameters(self) -> None:
        for number, optimizer in enumerate(self.optimizers):
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            if any(id(parameter) not in self._names for parameter in held):
                raise JobError(
                    f"optimizer {number} holds a parameter that run.state was given in no module; "
                    "hand over the module as it is after sharding, and all of its parts"
                )

    def used_by(self, optimizer: Optimizer) -> None:
        """The optimizer has made a step."""
        self._in_flight.use(optimizer)

    def settle(self, version: int, *, made_in: int) -> None:
        """A step is over: the state is whole again. Raises JobError for what can't be kept."""
        self.version, self.made_in = version, made_in
        self.torn = False
        self._check_parameters()
        refuse_hidden(self._modules.values())
        self._in_flight.settle(self.optimizers, self._names)
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

    def prepare(self, gradients: Collection[str] = ()) -> None:
        """Make all of the optimizers' tensors, so that they can be filled, and room for the
        gradients of these parameters."""
        self._before = [snapshot(optimizer) for optimizer in self.optimizers]
        for optimizer in self.optimizers:
            make_state(optimizer)
        self._in_flight.prepare(gradients, self.parameters)
        self._look()

    def unprepare(self) -> None:
        """There was nothing to fill them with."""
        for optimizer, before in zip(self.optimizers, self._before, strict=True):
            put_back(optimizer, before)
        self._in_flight.prepare((), self.parameters)
        self._look()

    def lacks(self, values: Mapping[str, Any]) -> Collection[str]:
        """The names of those tensors that the version with these values does not have."""
        plain = values.get("own", {})
        bare = {
            f"{key}/{name}/"
            for key in (f"optim{number}" for number in range(len(self.optimizers)))
            if key in plain
            for name in decode_plain(plain[key]).get("bare", ())
        }
        waiting = {f"{GRADIENTS}/{name}" for name in plain.get(GRADIENTS, ())}
        return [
            name
            for name in self._live
            if f"{name.rpartition('/')[0]}/" in bare
            or (name.startswith(f"{GRADIENTS}/") and name not in waiting)
        ]

    def fit(self, names: Collection[str], values: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Be of the tensors that a version has, which are these; returns them by its names.

        Raises JobError where an optimizer is not what it was then.
        """
        found = {name.replace(COMPILED, ""): name for name in names}
        plain = values.get("own", {})
        for number, optimizer in enumerate(self.optimizers):
            prefix = f"optim{number}/"
            there = {name.removeprefix(prefix) for name in found if name.startswith(prefix)}
            kept = plain.get(f"optim{number}")
            told = None if kept is None else _uncompiled(decode_plain(kept))
            if told is not None:
                try:
                    check_groups(number, optimizer, self._names, there, told)
                except JobError as error:
                    raise JobError(f"version {values.get('version')}: {error}") from None
            bare = None if told is None else told.get("bare")
            drop_what_is_not_there(optimizer, self._names, there, bare)
        waiting = [n.partition("/")[2] for n in found if n.startswith(f"{GRADIENTS}/")]
        self._in_flight.prepare(waiting, self.parameters)
        self._look()
        return {found.get(name, name): tensor for name, tensor in self.tensors().items()}

    def put_gradients_back(self) -> None:
        """Before the first turn: what earlier ones have left for a later one's update."""
        self._in_flight.put_back(self.parameters)

    def weights(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers under their module's name."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()} | (
            self._buffers
        )

    def untrained(self) -> Collection[str]:
        """No name tells what is a buffer's: the user's optimizers hold what they hold."""
        return ()

    def saved_buffers(self) -> Collection[str]:
        """As with the untrained."""
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
                put_plain(optimizer, self._names, _uncompiled(decode_plain(kept)))
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
            f"optim{number}": encode_plain(f"optim{number}", plain_part(optimizer, self._names))
            for number, optimizer in enumerate(self.optimizers)
        }
        if self._in_flight.kept:
            found[GRADIENTS] = sorted(self._in_flight.kept)
        for name, extra in self._extras.items():
            found[f"extra/{name}"] = encode_plain(name, dict(extra.state_dict()))
        return found

    def _look(self) -> None:
        """Take note of the tensors there are now, where they are others than before."""
        live: dict[str, Tensor] = {**self.parameters, **self._buffers}
        for number, optimizer in enumerate(self.optimizers):
            for name, tensor in tensor_part(optimizer, self._names):
                live[f"optim{number}/{name}"] = tensor
        live |= {f"{GRADIENTS}/{name}": tensor for name, tensor in self._in_flight.kept.items()}
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
                        full = f"{key}/{path}.{name}" if path else f"{key}/{name}"
                        yield full.replace(COMPILED, ""), buffer


def _uncompiled(plain: Any) -> Any:
    """An optimizer's plain part, as it would be had no module been compiled when it was made."""
    state = {name.replace(COMPILED, ""): value for name, value in plain["state"].items()}
    return {**plain, "state": state}
