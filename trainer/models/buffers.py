"""The places in which a module keeps its buffers: found once, read and filled again and again.

A forward may put another tensor where a buffer was (`self.seen = self.seen + 1`), so what is held
on to is the place: the module's own dict of buffers, and the name in it. A place outlives its
module and keeps nothing else of it alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True, eq=False)
class BufferPlace:
    """One buffer of one module. `name` is what the whole model calls it."""

    name: str
    persistent: bool
    """Whether `state_dict` has it: what is not persistent is the model's own to make again."""

    home: dict[str, Tensor | None]
    """The module's dict of buffers."""

    key: str
    """The buffer's name in that dict."""

    def get(self) -> Tensor | None:
        """What lies there now; None where nothing does."""
        return self.home.get(self.key)

    def put(self, value: Tensor | None) -> None:
        """Put another tensor there."""
        self.home[self.key] = value


def buffer_places(module: nn.Module) -> Iterator[BufferPlace]:
    """Every place for a buffer under every name that it has, as `state_dict` names them.

    A module that is part of others twice comes twice, and so does a tensor that two places share.
    A place in which nothing lies (a buffer registered as None) comes too.
    """
    for path, part in module.named_modules(remove_duplicate=False):
        for key in part._buffers:
            yield BufferPlace(
                f"{path}.{key}" if path else key,
                key not in part._non_persistent_buffers_set,
                part._buffers,
                key,
            )


def names_within(module: nn.Module, blocks: Iterable[nn.Module]) -> set[str]:
    """The names that the module has for the buffers in some of its parts."""
    homes = {id(part._buffers) for block in blocks for part in block.modules()}
    return {place.name for place in buffer_places(module) if id(place.home) in homes}


def local_part(buffer: Tensor) -> Tensor:
    """This rank's elements: the buffer itself, or the local part of a DTensor."""
    return buffer._local_tensor if isinstance(buffer, DTensor) else buffer.detach()


def as_bytes(buffer: Tensor) -> Tensor:
    """The local elements as bytes, in order: a view of them where they lie in one piece."""
    plain = local_part(buffer).resolve_conj().resolve_neg()
    return plain.contiguous().reshape(-1).view(torch.uint8)


def same_kind(a: Tensor, b: Tensor) -> bool:
    """Whether both have one element type, shape and placement, so that one can take the other's
    values."""
    if isinstance(a, DTensor) != isinstance(b, DTensor):
        return False
    if isinstance(a, DTensor) and isinstance(b, DTensor) and a.placements != b.placements:
        return False
    return a.dtype == b.dtype and a.shape == b.shape


def differ(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[bool]:
    """Whether the two of each pair, bytes of one length, differ."""
    if all(a.device.type == b.device.type == "cpu" for a, b in pairs):
        return [not torch.equal(a, b) for a, b in pairs]
    # One wait for the device, not one a pair.
    device = pairs[0][0].device
    found = torch.stack([(a.to(b.device) != b).any().to(device) for a, b in pairs])
    return [bool(flag) for flag in found.tolist()]


class Snapshot:
    """What lies in some places, and a copy of it."""

    def __init__(self, places: Sequence[BufferPlace]) -> None:
        copies: dict[int, Tensor] = {}
        self._found: list[tuple[BufferPlace, Tensor | None, Tensor | None]] = []
        """A place, the tensor in it, and its copy: one for those that are one tensor."""
        for place in places:
            buffer = place.get()
            if buffer is not None and id(buffer) not in copies:
                copies[id(buffer)] = buffer.detach().clone()
            self._found.append((place, buffer, None if buffer is None else copies[id(buffer)]))

    @torch.no_grad()
    def put_back(self) -> None:
        """The same tensors lie in the same places, with the same values."""
        for place, buffer, copy in self._found:
            place.put(buffer)
            if buffer is not None and copy is not None:
                buffer.copy_(copy)

    def changed(self) -> list[str]:
        """The names of the places where something else lies now than lay there; those in which
        nothing lay are left out."""
        names = [
            place.name
            for place, _, copy in self._found
            if copy is not None and not _alike(place.get(), copy)
        ]
        return list(dict.fromkeys(names))


def _alike(now: Tensor | None, before: Tensor) -> bool:
    if now is None or not same_kind(now, before):
        return False
    if before.layout is not torch.strided or before.is_quantized:
        return True  # nobody can say
    return not any(differ([(as_bytes(now), as_bytes(before))]))
