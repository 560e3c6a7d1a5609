"""A part of the model leaves the meta device: memory for its parameters, values for its buffers.

Parameters get theirs afterwards, by name. A buffer's value comes from the model's own code: what
is forgotten there would be whatever the memory held, another thing on each rank and in each
generation. So fresh memory is marked, and a buffer that still has the mark is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.errors import JobError
from trainer.models.buffers import BufferPlace, buffer_places, local_part
from trainer.models.spec import ModelSpec

MARK = 0xA5
"""What the bytes of a buffer's fresh memory are set to: as a number of any type, an odd one."""
MARKED_BYTES = 4096
"""How many of them, from the first: tables that will be replaced are not worth touching whole."""


def materialize(
    part: nn.Module, spec: ModelSpec, *, where: torch.device, device: torch.device, seed: int
) -> None:
    """Give the part memory in place: parameters on `where`, without values; buffers on `device`.

    Buffers that were one tensor on the meta device are one afterwards, and those that were on
    another device all along keep their values. Random numbers that the model's code draws for a
    buffer follow from `seed`, so that every rank draws the same. Raises JobError, naming it, for a
    buffer that the code gives no value.
    """
    before = [
        (place, buffer) for place in buffer_places(part) if (buffer := place.get()) is not None
    ]
    part.to_empty(device=where)
    fresh = list(_lay_out(before, device))
    drawing = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=drawing), torch.no_grad():
        torch.manual_seed(seed)
        spec.after_materialize(part, device)
    _refuse_unfilled(fresh)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A buffer as it was handed to the model's code: memory with a mark, and its version then."""

    place: BufferPlace
    buffer: Tensor
    version: int


def _lay_out(
    before: Iterable[tuple[BufferPlace, Tensor]], device: torch.device
) -> Iterator[_Fresh]:
    """Undo what `to_empty` does to buffers beside giving them memory.

    Yields those that have no value.
    """
    made: dict[int, Tensor] = {}
    for place, old in before:
        tensor = made.get(id(old))
        if tensor is None:
            now = place.get()
            assert now is not None
            if not old.is_meta:
                tensor = old.to(device)
            elif now.device == device:
                tensor = now
            else:
                tensor = torch.empty_like(now, device=device)
            made[id(old)] = tensor
            if old.is_meta and local_part(tensor).numel():
                _first_bytes(tensor).fill_(MARK)
                yield _Fresh(place, tensor, local_part(tensor)._version)
        place.put(tensor)


def _refuse_unfilled(fresh: Iterable[_Fresh]) -> None:
    for item in fresh:
        if item.place.get() is not item.buffer or local_part(item.buffer)._version != item.version:
            continue
        if bool((_first_bytes(item.buffer) == MARK).all()):
            raise JobError(
                f"the buffer {item.place.name} has no value: the model is built without memory, so "
                "after_materialize of the factory's ModelSpec has to fill every buffer"
            )


def _first_bytes(buffer: Tensor) -> Tensor:
    """A view of the memory that a buffer lies in; writing through it does not count as writing."""
    storage = local_part(buffer).untyped_storage()
    size = min(storage.nbytes(), MARKED_BYTES)
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, (size,), (1,))
