"""The persistent buffers of a rank's model parts, as state.

A forward changes buffers before its step is agreed on. So the state has a copy of its own, which
is that of a whole version: it is what is mirrored, saved and given to others. `settle` takes over
what the forwards of a step have left, once the step counts; `put_back` undoes it when it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.checkpoint.dtypes import ELEMENT_TYPES
from trainer.errors import JobError
from trainer.models.buffers import (
    BufferPlace,
    Snapshot,
    as_bytes,
    buffer_places,
    differ,
    local_part,
    same_kind,
)
from trainer.worker.optimizer import placed_as

REMEDY = "or register it with persistent=False, if it may begin anew at every restart"


class ModelBuffers:
    """Every persistent buffer twice: live, where the model has it, and as of the state's version.

    A name may have several places here: of shared modules, or of stages that each have a copy.
    What lies in the first of them counts. This outlives the modules, as the state does, and keeps
    nothing of them alive but buffers.
    """

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        """Raises JobError for a buffer of a kind that can't be kept."""
        self._places: dict[str, list[BufferPlace]] = {}
        self._empty: list[BufferPlace] = []
        """Those registered as None: what comes to lie there would have no place in a state."""
        self._passing: list[BufferPlace] = []
        """Those that are not persistent, which are no part of the state."""
        for place in (place for part in parts for place in buffer_places(part)):
            if not place.persistent:
                self._passing.append(place)
            elif place.get() is None:
                self._empty.append(place)
            else:
                self._places.setdefault(place.name, []).append(place)
        self.kept: dict[str, Tensor] = {}
        """By name, as of the state's version. Always the same tensors, filled anew."""
        for name, (first, *_) in self._places.items():
            buffer = first.get()
            assert buffer is not None
            self.kept[name] = _copy_to_keep(name, buffer)
        self.changing: list[str] = []
        """The names of those that forwards have been seen to change, the same on every rank of a
        stage; nothing is done about the others."""

    def live(self, name: str) -> Tensor:
        """A buffer as the model has it now. Raises JobError where it is of another kind now."""
        buffer, kept = self._places[name][0].get(), self.kept[name]
        if buffer is None:
            raise JobError(f"the forward took the buffer {name} away: let it stay, {REMEDY}")
        if not same_kind(buffer, kept):
            raise JobError(
                f"the forward made the buffer {name} another one: it was {_kind(kept)} and is "
                f"{_kind(buffer)}. Give it its element type and its full shape from the start, "
                f"{REMEDY}"
            )
        return buffer

    def check(self, parts: Iterable[nn.Module] = ()) -> None:
        """Raise JobError for a buffer that could not be taken back after a restart.

        `parts` are searched for buffers that have come since the model was built; without them
        only those that were registered as None are looked at.
        """
        born = [place for place in self._empty if place.get() is not None]
        for part in parts:
            born += [
                place
                for place in buffer_places(part)
                if place.persistent and place.get() is not None and place.name not in self._places
            ]
        if born:
            raise JobError(
                f"the buffer {born[0].name} came with a forward: a restarted model has no place "
                f"for it. Register it with its full shape when the model is made, {REMEDY}"
            )
        for name, places in self._places.items():
            if len(places) == 1:
                continue
            buffers = {
                id(buffer): buffer for place in places if (buffer := place.get()) is not None
            }
            first = as_bytes(self.live(name))
            if any(differ([(first, as_bytes(buffer)) for buffer in buffers.values()])):
                raise JobError(
                    f"the buffer {name} has one name and several values, as several pipeline "
                    "stages have one of that name and change it differently: give it a name of its "
                    "own in each stage"
                )

    def changed(self, names: Collection[str]) -> list[bool]:
        """Which of these the forwards have changed since the state's version."""
        return differ([(as_bytes(self.live(name)), as_bytes(self.kept[name])) for name in names])

    @torch.no_grad()
    def fill(self, name: str, data: Tensor) -> None:
        """Give the live buffer these bytes, as `as_bytes` gives them."""
        like = local_part(self.kept[name])
        # Cloned, as bytes out of the middle of others may lie where no element may begin.
        self._put(name, data.clone().view(like.dtype).view(like.shape))

    @torch.no_grad()
    def settle(self) -> None:
        """The step counts: what its forwards have made of the changing ones is the state's now."""
        for name in self.changing:
            local_part(self.kept[name]).copy_(local_part(self.live(name)))

    @torch.no_grad()
    def put_back(self, names: Iterable[str] | None = None) -> None:
        """The live ones, or those that change, are again as the state has them."""
        for name in self.changing if names is None else names:
            self._put(name, local_part(self.kept[name]))

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within, forwards are done that nobody counts: afterwards all buffers are as before."""
        places = [place for of_name in self._places.values() for place in of_name]
        before = Snapshot([*places, *self._passing])
        yield
        before.put_back()

    def watch_passing(self) -> Snapshot:
        """Those that are not persistent, as they are now."""
        return Snapshot(self._passing)

    def _put(self, name: str, value: Tensor) -> None:
        kept = self.kept[name]
        for place in self._places[name]:
            buffer = place.get()
            if buffer is None or not same_kind(buffer, kept) or _is_expanded(buffer):
                place.put(placed_as(kept, value.clone()))
            else:
                local_part(buffer).copy_(value)


def _copy_to_keep(name: str, buffer: Tensor) -> Tensor:
    plain = str(buffer.dtype).removeprefix("torch.")
    if plain not in ELEMENT_TYPES or buffer.layout is not torch.strided:
        raise JobError(
            f"the buffer {name} is a {buffer.layout} tensor of {plain}, which can't be saved: keep "
            f"it as plain numbers, {REMEDY}"
        )
    local = local_part(buffer).resolve_conj().resolve_neg()
    return placed_as(buffer, local.clone(memory_format=torch.contiguous_format))


def _is_expanded(buffer: Tensor) -> bool:
    """Whether several of its elements are one in memory, which then can't be written to."""
    local = local_part(buffer)
    return any(n > 1 and step == 0 for n, step in zip(local.shape, local.stride(), strict=True))


def _kind(buffer: Tensor) -> str:
    placed = f", {buffer.placements}" if isinstance(buffer, DTensor) else ""
    return f"{str(buffer.dtype).removeprefix('torch.')} {list(buffer.shape)}{placed}"
